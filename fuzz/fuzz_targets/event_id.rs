//! Event ids come from clients. Any text is refused or has exactly one spelling: what parses is
//! displayed as the same bytes, fits its limit, and is a legal value of an `id` field.
#![no_main]

use libfuzzer_sys::fuzz_target;
use streamkeeper_session::{EVENT_ID_MAX_LEN, EventId};
use streamkeeper_sse::Id;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let Ok(id) = text.parse::<EventId>() else {
        return;
    };
    assert_eq!(id.to_string(), text);
    assert!(text.len() <= EVENT_ID_MAX_LEN);
    let mut written = Vec::new();
    id.write_to(&mut written);
    assert_eq!(written, input);
    assert_eq!(
        Id::try_from(text).map(|id| id.to_string()).as_deref(),
        Ok(text)
    );
});
