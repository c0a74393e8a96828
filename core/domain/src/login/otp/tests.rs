//! Codes at the domain's boundary: a temporary store, a clock moved by hand, a scripted SMS port.

use super::*;

use std::collections::HashSet;

#[test]
fn codes_have_their_length_and_keep_leading_zeros() {
    for length in 4..=10u8 {
        let codes: HashSet<String> = (0..2000).map(|_| random_code(length).unwrap()).collect();
        assert!(codes.iter().all(|code| code.len() == usize::from(length)));
        assert!(codes.iter().all(|code| code.bytes().all(|b| b.is_ascii_digit())));
        // With 2000 draws, none begins with 0 once in 10^91 runs.
        assert!(codes.iter().any(|code| code.starts_with('0')), "length {length}");
    }
}

#[test]
fn every_digit_is_as_likely_at_every_place() {
    const DRAWS: usize = 20_000;
    let mut counts = [[0usize; 10]; 4];
    for _ in 0..DRAWS {
        for (place, byte) in random_code(4).unwrap().bytes().enumerate() {
            counts[place][usize::from(byte - b'0')] += 1;
        }
    }
    // 2000 expected, standard deviation 42: seven of them go wrong once in 10^10 runs.
    for (place, digits) in counts.iter().enumerate() {
        for (digit, count) in digits.iter().enumerate() {
            assert!((1700..=2300).contains(count), "digit {digit} at place {place}: {count}");
        }
    }
}

#[test]
fn rules_out_of_range_are_named() {
    #[track_caller]
    fn check(change: impl FnOnce(&mut OtpRules), expected: Option<&str>) {
        let mut rules = OtpRules::default();
        change(&mut rules);
        assert_eq!(rules.check().err().map(|error| error.rule), expected);
    }
    let secs = Duration::from_secs;
    check(|_| (), None);
    check(|rules| rules.length = 3, Some("length"));
    check(|rules| rules.length = 4, None);
    check(|rules| rules.length = 10, None);
    check(|rules| rules.length = 11, Some("length"));
    check(|rules| rules.ttl = Duration::ZERO, Some("ttl"));
    check(|rules| rules.ttl = secs(600), None);
    check(|rules| rules.ttl = secs(601), Some("ttl"));
    check(|rules| rules.attempts_max = 0, Some("attempts_max"));
    check(|rules| rules.attempts_max = 10, None);
    check(|rules| rules.attempts_max = 11, Some("attempts_max"));
    check(|rules| rules.resend_after = Some(secs(240)), None);
    check(|rules| rules.resend_after = Some(secs(241)), Some("resend_after"));
    check(|rules| rules.text = "code".to_owned(), Some("text"));
    check(|rules| rules.text = format!("{{code}}{}", "x".repeat(294)), None);
    check(|rules| rules.text = format!("{{code}}{}", "x".repeat(295)), Some("text"));
    check(|rules| rules.send_timeout = secs(0), Some("send_timeout"));
    check(|rules| rules.send_timeout = secs(60), None);
    check(|rules| rules.send_timeout = secs(61), Some("send_timeout"));
}
