/** TensorBoard's event files: TFRecord frames of Event messages, written by hand as there is no kept writer for Node. */

/** CRC-32C (Castagnoli); zlib's crc32 is another polynomial. */
const table = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  return crc >>> 0;
});

export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = table[(crc ^ byte) & 255]! ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

/** TFRecord stores checksums rotated and shifted, so that a checksum of a checksum is no trap. */
function masked(bytes: Uint8Array): number {
  const crc = crc32c(bytes);
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

/** length u64, its checksum, the data, its checksum; all little-endian. */
export function frame(data: Uint8Array): Buffer {
  const out = Buffer.alloc(16 + data.length);
  out.writeBigUInt64LE(BigInt(data.length), 0);
  out.writeUInt32LE(masked(out.subarray(0, 8)), 8);
  out.set(data, 12);
  out.writeUInt32LE(masked(data), 12 + data.length);
  return out;
}

const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;

function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = BigInt(value);
  while (rest >= 128n) {
    bytes.push(Number(rest & 127n) | 128);
    rest >>= 7n;
  }
  bytes.push(Number(rest));
  return Buffer.from(bytes);
}

const key = (field: number, wire: number) => varint((field << 3) | wire);

function integer(field: number, value: number): Buffer {
  return Buffer.concat([key(field, VARINT), varint(value)]);
}

function double(field: number, value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleLE(value);
  return Buffer.concat([key(field, FIXED64), bytes]);
}

function float(field: number, value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return Buffer.concat([key(field, FIXED32), bytes]);
}

function bytes(field: number, value: string | Uint8Array): Buffer {
  const data = Buffer.from(value as Uint8Array);
  return Buffer.concat([key(field, BYTES), varint(data.length), data]);
}

// Field numbers of TensorFlow's event.proto, summary.proto and tensor.proto.
const EVENT = { wallTime: 1, step: 2, fileVersion: 3, summary: 5, sessionLog: 7 };
const SUMMARY_VALUE = 1;
const VALUE = { tag: 1, simpleValue: 2, tensor: 8, metadata: 9 };
const TENSOR = { dtype: 1, shape: 2, string: 8 };
const DT_STRING = 7;

type Payload = [field: number, message: string | Uint8Array];

/** As protobuf does, zero is left out. */
function event(time: number, step: number, [field, message]: Payload): Buffer {
  const steps = step === 0 ? [] : [integer(EVENT.step, step)];
  return frame(Buffer.concat([double(EVENT.wallTime, time), ...steps, bytes(field, message)]));
}

/** The first record of a file. `time` is in seconds since 1970, here and below. */
export const versionEvent = (time: number): Buffer => event(time, 0, [EVENT.fileVersion, "brain.Event:2"]);

/** Says that a run starts again at `step`: what other files say of later steps is void. */
export const restartEvent = (time: number, step: number): Buffer =>
  event(time, step, [EVENT.sessionLog, integer(1, 1)]);

export const scalarEvent = (time: number, step: number, tag: string, value: number): Buffer =>
  event(time, step, [
    EVENT.summary,
    bytes(SUMMARY_VALUE, Buffer.concat([bytes(VALUE.tag, tag), float(VALUE.simpleValue, value)])),
  ]);

/** A text for TensorBoard's text tab: a tensor of one string, marked for that plugin. */
export function textEvent(time: number, tag: string, text: string): Buffer {
  const shape = bytes(TENSOR.shape, bytes(2, integer(1, 1))); // [1]
  const tensor = Buffer.concat([integer(TENSOR.dtype, DT_STRING), shape, bytes(TENSOR.string, text)]);
  const metadata = bytes(1, Buffer.concat([bytes(1, "text"), bytes(2, integer(1, 0))]));
  const value = Buffer.concat([
    bytes(VALUE.tag, `${tag}/text_summary`),
    bytes(VALUE.tensor, tensor),
    bytes(VALUE.metadata, metadata),
  ]);
  return event(time, 0, [EVENT.summary, bytes(SUMMARY_VALUE, value)]);
}
