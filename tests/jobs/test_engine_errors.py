"""What is told of errors that come from an engine's Java, in one line."""

import pytest

from pipelines.engines import in_short

JOB_LOST = """Pipeline deepmac-label-1 failed in state FAILED: org.apache.flink.runtime.rest.util.RestClientException: [org.apache.flink.runtime.messages.FlinkJobNotFoundException: Could not find Flink job (1f83)
\tat org.apache.flink.runtime.rest.handler.job.JobExecutionResultHandler.propagateException(JobExecutionResultHandler.java:94)
\tat java.base/java.util.concurrent.CompletableFuture.uniExceptionally(CompletableFuture.java:990)
Caused by: java.util.concurrent.CompletionException: org.apache.flink.runtime.messages.FlinkJobNotFoundException: Could not find Flink job (1f83)
\tat java.base/java.util.concurrent.CompletableFuture.encodeThrowable(CompletableFuture.java:332)
\t... 45 more
Caused by: org.apache.flink.runtime.messages.FlinkJobNotFoundException: Could not find Flink job (1f83)
\tat org.apache.flink.runtime.dispatcher.Dispatcher.lambda$requestJobStatus$20(Dispatcher.java:896)
\t... 5 more
]"""
STEP_FAILED = """Pipeline x failed in state FAILED: java.lang.RuntimeException: Error received from SDK harness for instruction 4: Traceback (most recent call last):
  File "apache_beam/runners/common.py", line 1498, in apache_beam.runners.common.DoFnRunner.process
    return self.do_fn_invoker.invoke_process(windowed_value)
ValueError: bad value [while running 'Do unit']

"""


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            JOB_LOST,
            "Pipeline deepmac-label-1 failed in state FAILED: RestClientException: "
            "FlinkJobNotFoundException: Could not find Flink job (1f83)",
        ),
        (
            STEP_FAILED,
            "Pipeline x failed in state FAILED: RuntimeException: Error received from SDK harness "
            "for instruction 4: ValueError: bad value [while running 'Do unit']",
        ),
        ("one line  of words", "one line of words"),
        ("", ""),
        ("\n \n", ""),
    ],
)
def test_what_is_told(said, told):
    assert in_short(said) == told
