"""A network as files that run without this package: `saved_model.export_saved_model`."""

INPUT_TYPES = {
    "image_and_boxes_tensor": "pixels of an image and boxes",
    "encoded_image_and_boxes": "JPEG or PNG bytes and boxes",
    "image_tensor": "pixels of an image",
    "float_image_tensor": "pixels of images of one size, as float",
    "encoded_image_string_tensor": "JPEG or PNG bytes",
    "tf_example": "tf.Example records with image/encoded",
}
"""What an exported network takes; without boxes it detects. The names are the reference's, but
for `encoded_image_and_boxes`, which it has not."""

WITH_BOXES = ("image_and_boxes_tensor", "encoded_image_and_boxes")
