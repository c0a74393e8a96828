//! WebSocket frames (RFC 6455): decodes a client's, encodes ours.
//!
//! This is own code because the socket's task reads without waiting: a decoder that keeps its place between reads can
//! be left at any byte, holds nothing while a socket idles, and counts a message over all of its fragments. Invariants:
//! at most `bytes_max` of a message are ever held, and none of one whose size is announced as larger; text is checked
//! as it comes; a client's frame without a mask, with a reserved bit, an unknown opcode or a misplaced continuation is
//! refused.

use std::str;

use bytes::Bytes;

use crate::close::Close;

/// Payload of a control frame, by the protocol.
const CONTROL_BYTES_MAX: usize = 125;

/// The longest head of a client's frame: 2 bytes, 8 of length, 4 of mask.
const HEAD_BYTES_MAX: usize = 14;

/// Bytes of a frame's payload that cost as much as a frame. Most requests are shorter. By default, a socket's 50 units
/// a second carry 200 KiB, where as many frames of 128 KiB carried 6.4 MB.
pub(crate) const BYTES_PER_UNIT: usize = 4096;

/// A complete message or control frame of a client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    /// Holds the code of the answer.
    Close(u16),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

impl Opcode {
    fn from_bits(bits: u8) -> Option<Opcode> {
        use Opcode::{Binary, Close, Continuation, Ping, Pong, Text};
        [Continuation, Text, Binary, Close, Ping, Pong].into_iter().find(|opcode| *opcode as u8 == bits)
    }

    fn is_control(self) -> bool {
        self as u8 >= 8
    }
}

/// Decodes a client's frames across reads.
pub(crate) struct Decoder {
    bytes_max: usize,
    head: [u8; HEAD_BYTES_MAX],
    head_len: usize,
    /// The frame whose payload is being read.
    frame: Option<Frame>,
    /// A message whose last fragment has not come.
    message: Option<Opcode>,
    payload: Vec<u8>,
    /// Bytes of a text that are known to be valid UTF-8.
    checked: usize,
    control: Vec<u8>,
    frame_units_max: u64,
    begun: Begun,
}

/// Frames whose heads were read, with fragments and control frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Begun {
    /// What they cost together.
    pub units: u64,
    /// Some are of a message, which control frames are not.
    pub of_message: bool,
}

#[derive(Clone, Copy)]
struct Frame {
    last: bool,
    opcode: Opcode,
    mask: [u8; 4],
    /// Bytes of payload read.
    read: usize,
    len: usize,
}

impl Decoder {
    /// A frame costs `frame_units_max` at most.
    pub(crate) fn new(bytes_max: usize, frame_units_max: u64) -> Decoder {
        Decoder {
            bytes_max,
            head: [0; HEAD_BYTES_MAX],
            head_len: 0,
            frame: None,
            message: None,
            payload: Vec::new(),
            checked: 0,
            control: Vec::new(),
            frame_units_max,
            begun: Begun::default(),
        }
    }

    /// Returns the frames begun since the last call.
    pub(crate) fn take_begun(&mut self) -> Begun {
        std::mem::take(&mut self.begun)
    }

    /// Consumes input until a message is complete; `None` when the input is used up. After an error nothing more
    /// may be decoded.
    pub(crate) fn decode(&mut self, input: &mut &[u8]) -> Result<Option<Incoming>, Close> {
        loop {
            let frame = match self.frame {
                Some(frame) => frame,
                None => match self.read_head(input)? {
                    Some(frame) => frame,
                    None => return Ok(None),
                },
            };
            let frame = self.read_payload(frame, input)?;
            if frame.read < frame.len {
                self.frame = Some(frame);
                return Ok(None);
            }
            self.frame = None;
            if let Some(incoming) = self.finish(frame)? {
                return Ok(Some(incoming));
            }
        }
    }

    fn read_head(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, Close> {
        loop {
            let wanted = match self.head_len {
                0 | 1 => 2,
                _ => 2 + 4 + extra_length(self.head[1]),
            };
            if self.head_len >= wanted {
                break;
            }
            let taken = (wanted - self.head_len).min(input.len());
            if taken == 0 {
                return Ok(None);
            }
            self.head[self.head_len..self.head_len + taken].copy_from_slice(&input[..taken]);
            *input = &input[taken..];
            self.head_len += taken;
            // A fault in the first two bytes is reported before more bytes arrive.
            if self.head_len >= 2 {
                check_head(self.head[0], self.head[1], self.message.is_some())?;
            }
        }
        let head = std::mem::replace(&mut self.head, [0; HEAD_BYTES_MAX]);
        self.head_len = 0;
        let opcode = Opcode::from_bits(head[0] & 0x0f).ok_or(Close::PROTOCOL)?;
        let (len, mask_at) = match head[1] & 0x7f {
            126 => (u64::from(u16::from_be_bytes([head[2], head[3]])), 4),
            127 => (head[2..10].iter().fold(0, |len, byte| len << 8 | u64::from(*byte)), 10),
            len => (u64::from(len), 2),
        };
        let room = self.bytes_max - if opcode.is_control() { 0 } else { self.payload.len() };
        let len = usize::try_from(len).ok().filter(|len| *len <= room).ok_or(Close::TOO_BIG)?;
        self.begun.units += (1 + (len / BYTES_PER_UNIT) as u64).min(self.frame_units_max);
        self.begun.of_message |= !opcode.is_control();
        let mask = [head[mask_at], head[mask_at + 1], head[mask_at + 2], head[mask_at + 3]];
        if !opcode.is_control() && opcode != Opcode::Continuation {
            self.message = Some(opcode);
        }
        Ok(Some(Frame { last: head[0] & 0x80 != 0, opcode, mask, read: 0, len }))
    }

    fn read_payload(&mut self, mut frame: Frame, input: &mut &[u8]) -> Result<Frame, Close> {
        let taken = (frame.len - frame.read).min(input.len());
        let into = if frame.opcode.is_control() { &mut self.control } else { &mut self.payload };
        let from = into.len();
        into.extend_from_slice(&input[..taken]);
        *input = &input[taken..];
        unmask(&mut into[from..], frame.mask, frame.read);
        frame.read += taken;
        if !frame.opcode.is_control() && self.message == Some(Opcode::Text) {
            self.check_text()?;
        }
        Ok(frame)
    }

    /// Checks the new bytes of a text. The last character may be incomplete.
    fn check_text(&mut self) -> Result<(), Close> {
        match str::from_utf8(&self.payload[self.checked..]) {
            Ok(_) => self.checked = self.payload.len(),
            Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
            Err(_) => return Err(Close::NOT_UTF8),
        }
        Ok(())
    }

    fn finish(&mut self, frame: Frame) -> Result<Option<Incoming>, Close> {
        if frame.opcode.is_control() {
            let payload = std::mem::take(&mut self.control);
            return Ok(Some(match frame.opcode {
                Opcode::Ping => Incoming::Ping(payload),
                Opcode::Pong => Incoming::Pong,
                _ => Incoming::Close(close_code(&payload)?),
            }));
        }
        if !frame.last {
            return Ok(None);
        }
        let payload = std::mem::take(&mut self.payload);
        self.checked = 0;
        match self.message.take() {
            Some(Opcode::Text) => {
                Ok(Some(Incoming::Text(String::from_utf8(payload).map_err(|_| Close::NOT_UTF8)?)))
            }
            _ => Ok(Some(Incoming::Binary(payload))),
        }
    }
}

fn extra_length(second: u8) -> usize {
    match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    }
}

fn check_head(first: u8, second: u8, in_message: bool) -> Result<(), Close> {
    let opcode = Opcode::from_bits(first & 0x0f).ok_or(Close::PROTOCOL)?;
    let (last, reserved, masked) = (first & 0x80 != 0, first & 0x70 != 0, second & 0x80 != 0);
    let too_long = opcode.is_control() && usize::from(second & 0x7f) > CONTROL_BYTES_MAX;
    let split = opcode.is_control() && !last;
    let misplaced = !opcode.is_control() && (opcode == Opcode::Continuation) != in_message;
    if reserved || !masked || too_long || split || misplaced { Err(Close::PROTOCOL) } else { Ok(()) }
}

/// The code that answers a close frame: the client's own, when that code may be sent.
fn close_code(payload: &[u8]) -> Result<u16, Close> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return if payload.is_empty() { Ok(1000) } else { Err(Close::PROTOCOL) };
    };
    let code = u16::from_be_bytes(*code);
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Close::PROTOCOL);
    }
    str::from_utf8(reason).map(|_| code).map_err(|_| Close::NOT_UTF8)
}

fn unmask(bytes: &mut [u8], mask: [u8; 4], offset: usize) {
    let mut turned = mask;
    turned.rotate_left(offset % 4);
    let wide = u64::from_ne_bytes(std::array::from_fn(|at| turned[at % 4]));
    let mut words = bytes.chunks_exact_mut(8);
    for word in &mut words {
        let value = word.iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        word.copy_from_slice(&(value ^ u64::from_le_bytes(wide.to_ne_bytes())).to_le_bytes());
    }
    for (at, byte) in words.into_remainder().iter_mut().enumerate() {
        *byte ^= turned[at % 4];
    }
}

/// Appends a frame whose payload `write` appends.
pub(crate) fn put_frame(out: &mut Vec<u8>, opcode: Opcode, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    // Most payloads need this head; the others are moved.
    out.extend_from_slice(&[0x80 | opcode as u8, 126, 0, 0]);
    write(out);
    let len = out.len() - start - 4;
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(short @ 0..=125), _) => {
            out[start + 1] = short;
            out.drain(start + 2..start + 4);
        }
        (_, Ok(middle)) => out[start + 2..start + 4].copy_from_slice(&middle.to_be_bytes()),
        _ => {
            out[start + 1] = 127;
            out.splice(start + 2..start + 4, (len as u64).to_be_bytes());
        }
    }
}

/// One frame.
pub(crate) fn frame(opcode: Opcode, payload: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(payload.len() + 10);
    put_frame(&mut out, opcode, |out| out.extend_from_slice(payload));
    out.into()
}

/// The frame that closes a socket.
pub(crate) fn close_frame(close: Close) -> Bytes {
    let mut payload = close.code.to_be_bytes().to_vec();
    payload.extend_from_slice(close.reason.as_bytes());
    frame(Opcode::Close, &payload)
}

#[cfg(test)]
mod tests;
