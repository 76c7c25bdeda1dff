//! Whatever the decoder dispatches can be written and read again: the same name and data (repaired
//! where they were not UTF-8), and the second writing is byte for byte the first.
//!
//! Input: a body as sent. The same bytes are also forced through the encoder as a name and as
//! data, which no decoder would give it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use streamkeeper_sse::oracle::{decode, events};
use streamkeeper_sse::{Finish, Limits, OwnedEvent, write_body, write_comment, write_id};

fn write(events: &[OwnedEvent]) -> Vec<u8> {
    let mut wire = Vec::new();
    events.iter().for_each(|event| event.write_block(&mut wire));
    wire
}

fuzz_target!(|input: &[u8]| {
    let first = events(&decode(Limits::default(), [input]));
    let wire = write(&first);
    let reading = decode(Limits::default(), [&*wire]);
    assert_eq!(reading.finish, Finish::Clean);
    let second = events(&reading);
    assert_eq!(second, first);
    assert_eq!(write(&second), wire);

    let mut forced = Vec::new();
    write_comment(input, &mut forced);
    write_id(input, &mut forced);
    write_body(input, input, &mut forced);
    let text = String::from_utf8(forced).expect("only UTF-8 is written");
    assert!(text.ends_with('\n') && !text.contains("\n\n") && !text.contains('\r'));
    // No byte of the input opened a line of its own.
    for line in text.lines() {
        let known = ["event: ", "data: ", "id: ", ":"];
        assert!(
            known.iter().any(|start| line.starts_with(start)),
            "{line:?}"
        );
    }
});
