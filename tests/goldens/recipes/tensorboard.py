"""Records of TensorBoard event files, as its own library writes them, in hexadecimal."""

import io

from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, tensor_shape_pb2, types_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

from .paths import GOLDENS, write_json

TIME = 1785000000.25


def record(event) -> str:
    buffer = io.BytesIO()
    RecordWriter(buffer).write(event.SerializeToString(deterministic=True))
    return buffer.getvalue().hex()


def scalar(tag: str, value: float, step: int):
    return event_pb2.Event(
        wall_time=TIME, step=step, summary=summary_pb2.Summary(value=[summary_pb2.Summary.Value(tag=tag, simple_value=value)])
    )


def text(tag: str, value: str):
    """What torch.utils.tensorboard's add_text makes."""
    metadata = summary_pb2.SummaryMetadata(plugin_data=summary_pb2.SummaryMetadata.PluginData(plugin_name="text", content=b"\x08\x00"))
    shape = tensor_shape_pb2.TensorShapeProto(dim=[tensor_shape_pb2.TensorShapeProto.Dim(size=1)])
    tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=[value.encode()], tensor_shape=shape)
    value = summary_pb2.Summary.Value(tag=f"{tag}/text_summary", metadata=metadata, tensor=tensor)
    return event_pb2.Event(wall_time=TIME, summary=summary_pb2.Summary(value=[value]))


def make() -> None:
    session = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    records = {
        "version": event_pb2.Event(wall_time=TIME, file_version="brain.Event:2"),
        "restart": event_pb2.Event(wall_time=TIME, step=300, session_log=session),
        "scalar": scalar("train/loss", 1.2345678, 7),
        "scalar-large-step": scalar("eval/perplexity", 1e-30, 5_000_000_000),
        "scalar-negative": scalar("train/reward", -3.5, 1),
        "text": text("args", '{"learning_rate": 0.0002, "run_name": "Zürich"}'),
    }
    write_json(GOLDENS / "tensorboard.json", {"time": TIME, "records": {name: record(event) for name, event in records.items()}})
