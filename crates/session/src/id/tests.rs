use std::error::Error;

use proptest::prelude::*;

use super::*;

const ZERO: &str = "AAAAAAAAAAAAAAAAAAAAAA";

fn bad(text: &str) -> BadEventId {
    text.parse::<EventId>().expect_err("the text must be refused")
}

#[test]
fn a_session_id_is_the_base64url_of_its_bytes_in_network_order() {
    // The sextets 0, 1, 2 … 20 in a row, then the bits 01: the alphabet in its own order.
    let counted = SessionId::from_random(0x0010_8310_5187_2092_8b30_d38f_4114_9351);
    assert_eq!(counted.to_string(), "ABCDEFGHIJKLMNOPQRSTUQ");
    assert_eq!(SessionId::from_random(0).to_string(), ZERO);
    assert_eq!(SessionId::from_random(u128::MAX).to_string(), "_____________________w");
    assert_eq!(SessionId::from_random(1).to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
    assert_eq!(format!("{counted:?}"), counted.to_string());
}

#[test]
fn a_session_id_has_no_second_spelling() {
    for (text, why) in [
        ("", BadSessionId::Length),
        ("AAAAAAAAAAAAAAAAAAAAA", BadSessionId::Length),
        ("AAAAAAAAAAAAAAAAAAAAAA==", BadSessionId::Length),
        ("AAAAAAAAAAAAAAAAAAAAAB", BadSessionId::NotCanonical),
        ("AAAAAAAAAAAAAAAAAAAAAP", BadSessionId::NotCanonical),
        ("+AAAAAAAAAAAAAAAAAAAAA", BadSessionId::Character),
        ("AAAAAAAAAA/AAAAAAAAAAA", BadSessionId::Character),
        ("AAAAAAAAAAAAAAAAAAAAA ", BadSessionId::Character),
        ("äAAAAAAAAAAAAAAAAAAAA", BadSessionId::Character),
    ] {
        assert_eq!(text.parse::<SessionId>(), Err(why), "{text:?}");
    }
}

#[test]
fn an_event_id_says_what_is_wrong_with_it() {
    assert_eq!(bad(""), BadEventId::Shape);
    assert_eq!(bad(ZERO), BadEventId::Shape);
    assert_eq!(bad(&format!("{ZERO}.1")), BadEventId::Shape);
    assert_eq!(bad(&format!("{ZERO}.1.2.3")), BadEventId::Shape);
    assert_eq!(bad("A.1.2"), BadEventId::Session(BadSessionId::Length));
    assert_eq!(bad(&"9".repeat(129)), BadEventId::TooLong);
    for (number, why) in [
        ("", BadNumber::Empty),
        ("+1", BadNumber::NotADigit),
        ("-1", BadNumber::NotADigit),
        (" 1", BadNumber::NotADigit),
        ("0x1", BadNumber::NotADigit),
        ("\u{661}", BadNumber::NotADigit),
        ("01", BadNumber::LeadingZero),
        ("00", BadNumber::LeadingZero),
        ("18446744073709551616", BadNumber::TooLarge),
    ] {
        assert_eq!(bad(&format!("{ZERO}.{number}.1")), BadEventId::Epoch(why), "{number:?}");
        assert_eq!(bad(&format!("{ZERO}.1.{number}")), BadEventId::Seq(why), "{number:?}");
    }
    assert_eq!(bad(&format!("{ZERO}.4294967296.1")), BadEventId::Epoch(BadNumber::TooLarge));
}

#[test]
fn a_refusal_names_the_cause_and_does_not_echo() {
    let error = bad(&format!("{ZERO}.1.6secret6"));
    assert_eq!(error.to_string(), "the sequence number in the event id is malformed");
    let cause = error.source().expect("a cause").to_string();
    assert_eq!(cause, "a number holds only the digits 0 to 9");
}

#[test]
fn the_longest_event_id_is_54_bytes() {
    let id = EventId { session: SessionId::from_random(u128::MAX), epoch: u32::MAX, seq: u64::MAX };
    assert_eq!(id.to_string().len(), 54);
    assert_eq!(id.to_string().parse(), Ok(id));
}

proptest! {
    #[test]
    fn every_event_id_reads_back_and_both_writers_agree(bits: u128, epoch: u32, seq: u64, shift in 0_u32..64) {
        let id = EventId { session: SessionId::from_random(bits), epoch: epoch >> (shift / 2), seq: seq >> shift };
        let text = id.to_string();
        prop_assert_eq!(text.parse::<EventId>(), Ok(id));
        let mut fast = b"id: ".to_vec();
        id.write_to(&mut fast);
        prop_assert_eq!(fast, format!("id: {text}").into_bytes());
    }

    #[test]
    fn whatever_is_accepted_is_the_only_spelling(text in "[A-Za-z0-9_-]{21}[AQgwBx][.][0-9]{1,11}[.][0-9]{1,21}") {
        if let Ok(id) = text.parse::<EventId>() {
            prop_assert_eq!(id.to_string(), text);
        }
    }

    #[test]
    fn no_text_makes_it_panic(text: String) {
        if let Ok(id) = text.parse::<EventId>() {
            prop_assert_eq!(id.to_string(), text);
        }
    }
}
