use super::*;
use crate::chunked::Chunked;
use crate::event::Template;

fn expected(shape: Shape, events: u32, ids: bool) -> Expected {
    Expected { shape, stream: 3, events, ids }
}

/// What the upstream sends for `numbers`, without its chunk framing.
fn body(shape: Shape, numbers: &[u32]) -> Vec<u8> {
    let mut template = Template::new(shape);
    let mut wire = Vec::new();
    for &number in numbers {
        wire.extend_from_slice(template.stamped(Stamp { stream: 3, number, due: u64::from(number) }));
    }
    wire.extend_from_slice(&shape.end());
    let (mut chunked, mut input, mut body) = (Chunked::new(), &wire[..], Vec::new());
    while let Some(data) = chunked.next(&mut input).expect("well formed") {
        body.extend_from_slice(data);
    }
    body
}

fn read(expected: Expected, pieces: &[&[u8]]) -> Result<(Vec<u32>, Tally), Mismatch> {
    let mut checker = Checker::new(expected);
    let mut numbers = Vec::new();
    for piece in pieces {
        checker.feed(piece, |stamp| numbers.push(stamp.number))?;
    }
    Ok((numbers, checker.finish()?))
}

#[test]
fn a_whole_stream_of_either_shape_passes_whatever_its_pieces() {
    for shape in [Shape::Generic, Shape::OpenAi] {
        let body = body(shape, &[0, 1, 2]);
        let bytes: Vec<&[u8]> = body.chunks(1).collect();
        for pieces in [&[&body[..]][..], &bytes] {
            let (numbers, tally) = read(expected(shape, 3, false), pieces).expect("whole");
            assert_eq!(numbers, [0, 1, 2]);
            assert_eq!(tally, Tally { events: 3, ..Tally::default() });
        }
    }
}

#[test]
fn a_lost_a_doubled_and_a_swapped_event_are_seen() {
    for (numbers, got) in [(&[0, 2][..], 2), (&[0, 0, 1], 0), (&[1, 0], 1)] {
        let body = body(Shape::Generic, numbers);
        let found = read(expected(Shape::Generic, 3, false), &[&body]);
        assert!(matches!(found, Err(Mismatch::Order { got: number, .. }) if number == got), "{found:?}");
    }
}

#[test]
fn an_early_end_and_no_end_are_seen() {
    let body = body(Shape::OpenAi, &[0, 1]);
    let early = read(expected(Shape::OpenAi, 3, false), &[&body]);
    assert_eq!(early, Err(Mismatch::Short { expected: 3, got: 2 }));
    let cut = body.len() - "data: [DONE]\n\n".len();
    let none = read(expected(Shape::OpenAi, 2, false), &[&body[..cut]]);
    assert_eq!(none, Err(Mismatch::NoEnd(2)));
}

#[test]
fn an_event_of_the_proxys_own_is_not_taken_for_one_of_ours() {
    let own = b"event: error\ndata: {\"code\":\"overloaded\"}\n\n";
    let found = read(expected(Shape::Generic, 1, false), &[own]);
    assert!(matches!(found, Err(Mismatch::Foreign(_))), "{found:?}");
}

#[test]
fn nothing_may_follow_the_end() {
    let mut body = body(Shape::Generic, &[0]);
    body.extend_from_slice(b"data: more\n\n");
    let found = read(expected(Shape::Generic, 1, false), &[&body]);
    assert_eq!(found, Err(Mismatch::AfterEnd("more".to_owned())));
}

fn numbered(ids: &[&str]) -> Vec<u8> {
    let mut text = String::from(": ka\nretry: 1000\n");
    for (number, id) in ids.iter().enumerate() {
        let last = number + 1 == ids.len();
        let data = if last {
            "event: done\ndata: {}".to_owned()
        } else {
            format!("data: #n={number:010} s=000003 t=0000000000000000")
        };
        text.push_str(&format!("id: {id}\n{data}\n\n"));
    }
    text.into_bytes()
}

#[test]
fn dense_ids_of_one_session_pass_and_are_counted() {
    let body = numbered(&["abc.1.1", "abc.1.2", "abc.1.3"]);
    let (_, tally) = read(expected(Shape::Generic, 2, true), &[&body]).expect("whole");
    assert_eq!(tally, Tally { events: 2, ids: 3, retries: 1, comments: 1 });
}

#[test]
fn a_missing_a_repeated_and_a_foreign_id_are_seen() {
    for ids in [["", "abc.1.2", "abc.1.3"], ["abc.1.1", "abc.1.1", "abc.1.2"], ["abc.1.1", "abd.1.2", "abc.1.3"]] {
        let found = read(expected(Shape::Generic, 2, true), &[&numbered(&ids)]);
        assert!(matches!(found, Err(Mismatch::Id(_))), "{ids:?}: {found:?}");
    }
}

#[test]
fn the_rest_of_a_stream_begins_right_after_the_first_event_and_nowhere_else() {
    let whole = numbered(&["abc.1.1", "abc.1.2", "abc.1.3"]);
    let second = memchr::memmem::find(&whole, b"id: abc.1.2").expect("it is there");
    let expected = expected(Shape::Generic, 2, true);
    let rest = |id: &str, body: &[u8]| {
        let mut checker = Checker::after_first(expected, id)?;
        checker.feed(body, |_| {})?;
        checker.finish()
    };
    assert_eq!(rest("abc.1.1", &whole[second..]), Ok(Tally { events: 1, ids: 2, ..Tally::default() }));
    assert!(matches!(rest("abc.1.1", &whole), Err(Mismatch::Id(_))), "the first one again");
    assert!(matches!(rest("abd.1.1", &whole[second..]), Err(Mismatch::Id(_))), "another session");
    assert!(matches!(rest("abc", &[]), Err(Mismatch::Id(_))), "no id");
}

#[test]
fn once_all_events_are_there_the_first_ones_id_is_known() {
    let whole = numbered(&["abc.1.4", "abc.1.5", "abc.1.6"]);
    let end = memchr::memmem::find(&whole, b"id: abc.1.6").expect("it is there");
    let mut checker = Checker::new(expected(Shape::Generic, 2, true));
    assert!(!checker.has_all_events());
    checker.feed(&whole[..end], |_| {}).expect("well formed");
    assert!(checker.has_all_events());
    assert_eq!(checker.first_id().as_deref(), Some("abc.1.4"));
}
