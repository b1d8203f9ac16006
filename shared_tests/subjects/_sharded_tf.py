"""What answers for `tf_sharded`, in the process that has several devices."""

from shared_tests.harness.backend import held_back

with held_back():
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 4
    )  # before its first use

from keras.distribution import DeviceMesh, list_devices

from shared_tests.subjects.tf_impl import TfImpl

import tf_impl  # isort: skip


class Sharded(TfImpl):
    """`tf_impl`, every layer sharded over all devices."""

    def __init__(self):
        super().__init__()
        devices = list_devices()
        self.mesh = DeviceMesh((len(devices),), ["heads"], devices)

    def blank(self, *arguments):
        return tf_impl.shard(super().blank(*arguments), self.mesh)
