"""The package map. Everything else is in pyproject.toml; Dataflow's --setup_file builds from here."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["deepmac*", "pipelines*"]), "deepmac.configs"],
    package_dir={"deepmac.configs": "configs"},
    package_data={
        "deepmac.configs": ["*.config", "*.weights.h5"],
        "deepmac.evaluation_page": ["*.css", "*.js"],
    },
)
