//! What a client sends: decoded, and charged against the socket's rate.
//!
//! A frame costs a unit, and another one for each [`BYTES_PER_UNIT`](crate::codec::BYTES_PER_UNIT) of its payload, so a
//! large frame that is read in vain costs its client what it costs us. It is charged when its head was read, by the
//! length that the head announces. Invariants: a message of which a frame was refused is refused, however late the
//! rest of it arrives; a frame that the rate's whole burst cannot pay costs the burst, so a message in one frame passes
//! at any rate.

use crate::bucket::{Bucket, Taken};
use crate::close::Close;
use crate::codec::{Decoder, Incoming};

pub(crate) struct Intake {
    decoder: Decoder,
    /// `None`: nothing is charged.
    bucket: Option<Bucket>,
    /// A frame of the message that is being read was refused.
    refused: bool,
}

/// A message or control frame, complete.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub incoming: Incoming,
    /// It is past the rate.
    pub refused: bool,
}

impl Intake {
    /// `rate`: units a second; `None` charges nothing.
    pub(crate) fn new(bytes_max: usize, rate: Option<u32>, now_ms: u64) -> Intake {
        let bucket = rate.map(|rate| Bucket::full(rate, now_ms));
        let frame_units_max = bucket.as_ref().map_or(u64::MAX, Bucket::burst);
        Intake { decoder: Decoder::new(bytes_max, frame_units_max), bucket, refused: false }
    }

    /// Consumes input until a message or a control frame is complete; `None` when the input is used up.
    ///
    /// # Errors
    ///
    /// Why the socket must close: the protocol was broken, or the client sends far above its rate.
    pub(crate) fn next(
        &mut self,
        input: &mut &[u8],
        now_ms: impl FnOnce() -> u64,
    ) -> Result<Option<Received>, Close> {
        let incoming = self.decoder.decode(input)?;
        let begun = self.decoder.take_begun();
        let mut refused = false;
        if begun.units > 0
            && let Some(bucket) = &mut self.bucket
        {
            match bucket.take(begun.units, now_ms()) {
                Taken::Allowed => {}
                Taken::Refused => refused = true,
                Taken::Flood => return Err(Close::FLOOD),
            }
        }
        self.refused |= refused && begun.of_message;
        let Some(incoming) = incoming else { return Ok(None) };
        if matches!(incoming, Incoming::Text(_) | Incoming::Binary(_)) {
            refused = std::mem::take(&mut self.refused);
        }
        Ok(Some(Received { incoming, refused }))
    }

    /// Charges what an allowed request costs besides its frame.
    pub(crate) fn owe(&mut self, units: u64) {
        if let Some(bucket) = &mut self.bucket {
            bucket.owe(units);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::SUBSCRIBE_ROOMS_MAX;
    use crate::trial::masked;

    const KIB: usize = 1024;
    /// Of the default configuration.
    const RATE: u32 = 50;
    const BYTES_MAX: usize = 128 * KIB;

    fn intake(rate: u32) -> Intake {
        Intake::new(BYTES_MAX, Some(rate), 1)
    }

    /// What happens to frames that arrive in one instant: `a`llowed, `r`efused, `f`lood.
    fn fates(intake: &mut Intake, bytes: &[u8]) -> String {
        let (mut input, mut fates) = (bytes, String::new());
        loop {
            match intake.next(&mut input, || 1) {
                Ok(Some(Received { refused, .. })) => fates.push(if refused { 'r' } else { 'a' }),
                Ok(None) => return fates,
                Err(close) => {
                    assert_eq!(close, Close::FLOOD);
                    fates.push('f');
                    return fates;
                }
            }
        }
    }

    /// An unknown request of this many bytes.
    fn unknown(bytes: usize) -> Vec<u8> {
        let empty = r#"{"type":"dance","x":""}"#;
        let text = format!(r#"{{"type":"dance","x":"{}"}}"#, "x".repeat(bytes - empty.len()));
        masked(0x81, text.as_bytes())
    }

    #[test]
    fn large_frames_are_refused_after_the_burst_and_then_close_the_socket() {
        // Of 100 units, 120 KiB cost 31: three pass, three are refused with 93 units, and the next is past 100.
        assert_eq!(fates(&mut intake(RATE), &unknown(120 * KIB).repeat(10)), "aaarrrf");
    }

    #[test]
    fn small_frames_cost_one_unit_each() {
        let fates = fates(&mut intake(RATE), &unknown(4 * KIB - 1).repeat(300));
        assert_eq!(fates, "a".repeat(100) + &"r".repeat(100) + "f");
    }

    #[test]
    fn the_largest_message_passes_at_any_rate() {
        for (rate, bytes) in [(RATE, 32 * KIB), (RATE, BYTES_MAX), (1, BYTES_MAX), (16, BYTES_MAX)] {
            assert_eq!(fates(&mut intake(rate), &unknown(bytes)), "a", "{bytes} bytes at {rate}");
        }
        // At a low rate it costs the whole burst.
        assert_eq!(fates(&mut intake(1), &[unknown(BYTES_MAX), unknown(100)].concat()), "ar");
    }

    /// By default a client may send eleven messages of the longest text at once.
    #[test]
    fn long_messages_pass_at_the_default_rate() {
        assert_eq!(fates(&mut intake(RATE), &unknown(32 * KIB).repeat(12)), "aaaaaaaaaaar");
    }

    #[test]
    fn a_frame_that_was_refused_at_its_head_stays_refused() {
        let large = unknown(120 * KIB);
        for cut in [14, 20, 16 * KIB, large.len() - 1] {
            let mut intake = intake(RATE);
            assert_eq!(fates(&mut intake, &large.repeat(3)), "aaa");
            let (head, rest) = large.split_at(cut);
            assert_eq!(fates(&mut intake, head), "");
            assert_eq!(fates(&mut intake, rest), "r", "cut at {cut}");
            // And the next one is charged by itself.
            assert_eq!(fates(&mut intake, &unknown(100)), "a");
        }
    }

    #[test]
    fn a_message_is_refused_with_any_of_its_fragments_and_a_ping_by_itself() {
        let mut intake = intake(1);
        // Two units: the first fragment and the ping pass, the last fragment does not.
        let (first, last, ping) = (masked(0x01, b"{"), masked(0x80, b"}"), masked(0x89, b""));
        assert_eq!(fates(&mut intake, &first), "");
        assert_eq!(fates(&mut intake, &ping), "a");
        assert_eq!(fates(&mut intake, &last), "r");

        let mut intake = self::intake(2);
        // Four units: a message in three frames, and one ping.
        let middle = masked(0x00, b"");
        assert_eq!(fates(&mut intake, &[first, middle, last].concat()), "a");
        assert_eq!(fates(&mut intake, &ping.repeat(2)), "ar");
    }

    #[test]
    fn endless_empty_fragments_are_a_flood() {
        let fragments = [masked(0x01, b""), masked(0x00, b"").repeat(1000)].concat();
        assert_eq!(fates(&mut intake(RATE), &fragments), "f");
    }

    /// A client that reconnects: its token, all its rooms with one frame, and then what it has to send.
    #[test]
    fn a_client_subscribes_to_as_many_rooms_as_one_frame_may_name() {
        let room = r#"{"room":9007199254740991,"since":67108863,"revision":67108863},"#;
        let rooms = room.repeat(SUBSCRIBE_ROOMS_MAX);
        let text = format!(r#"{{"type":"subscribe","rooms":[{}]}}"#, rooms.trim_end_matches(','));
        let request = crate::request::parse(&text, crate::trial::ALL).expect("a request").request;
        for (rate, small) in [(RATE, 63), (1, 0)] {
            let mut intake = intake(rate);
            assert_eq!(fates(&mut intake, &unknown(100)), "a");
            if rate == 1 {
                // Such a client waits for two seconds first.
                intake = self::intake(rate);
            }
            assert_eq!(fates(&mut intake, &masked(0x81, text.as_bytes())), "a", "at {rate}");
            intake.owe(request.units());
            let after = fates(&mut intake, &unknown(100).repeat(small + 1));
            assert_eq!(after, "a".repeat(small) + "r", "at {rate}");
        }
    }

    #[test]
    fn nothing_is_charged_without_a_rate() {
        let mut intake = Intake::new(BYTES_MAX, None, 1);
        assert_eq!(fates(&mut intake, &masked(0x82, b"x").repeat(1000)), "a".repeat(1000));
    }
}
