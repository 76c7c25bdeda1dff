use super::*;

const ROOMY: RingLimits = RingLimits { max_events: 1_000_000, max_bytes: 64 << 20 };

fn ring(max_events: usize, max_bytes: usize) -> Ring<&'static str> {
    Ring::new(RingLimits { max_events, max_bytes })
}

/// Pushes `1`, `2`, … up to `last`, written as text.
fn counted(mut ring: Ring<&'static str>, last: u64) -> Ring<&'static str> {
    for seq in 1..=last {
        assert_eq!(ring.push(seq.to_string().as_bytes(), None), Ok(seq));
    }
    ring
}

fn bodies(ring: &Ring<&'static str>, from: u64) -> Vec<String> {
    ring.iter_from(from)
        .expect("no gap")
        .map(|record| match record {
            Record::Event(entry) => {
                format!("{}={}", entry.seq, String::from_utf8_lossy(entry.body))
            }
            Record::Sealed(end) => format!("sealed {end}"),
        })
        .collect()
}

#[test]
fn an_empty_ring_owns_nothing_and_waits_for_its_first_record() {
    let ring = ring(10, 10);
    assert_eq!((ring.footprint(), ring.len(), ring.first_seq(), ring.next_seq()), (0, 0, 1, 1));
    assert_eq!(ring.get(0), Ok(None));
    assert_eq!(ring.get(1), Ok(None));
    assert_eq!(ring.find_kept(b""), None);
}

#[test]
fn records_are_numbered_from_one_without_holes() {
    let ring = counted(Ring::new(ROOMY), 1_000);
    assert_eq!(ring.next_seq(), 1_001);
    for seq in 1..=1_000 {
        let body = seq.to_string();
        let entry = Entry { seq, id: None, body: body.as_bytes() };
        assert_eq!(ring.get(seq), Ok(Some(Record::Event(entry))));
    }
    assert_eq!(bodies(&ring, 998), ["998=998", "999=999", "1000=1000"]);
    assert_eq!(bodies(&ring, 0).len(), 1_000);
}

#[test]
fn the_oldest_make_room_and_their_absence_is_named() {
    let ring = counted(ring(3, 1_000), 10);
    assert_eq!((ring.first_seq(), ring.len(), ring.evicted()), (8, 3, 7));
    let gone = |from| Gap { from, to: 7, reason: GapReason::Evicted };
    assert_eq!(ring.get(0), Err(gone(1)));
    assert_eq!(ring.get(5), Err(gone(5)));
    assert_eq!(ring.get(7), Err(gone(7)));
    assert_eq!(bodies(&ring, 8), ["8=8", "9=9", "10=10"]);
    assert_eq!(gone(5).to_string(), "the events 5 to 7 cannot be served (evicted)");
}

#[test]
fn bytes_of_bodies_and_kept_ids_are_bounded() {
    let mut ring = ring(100, 10);
    ring.push(b"aaaa", Some(b"1")).expect("open");
    ring.push(b"bbbb", Some(b"2")).expect("open");
    assert_eq!((ring.len(), ring.bytes()), (2, 10));
    ring.push(b"", None).expect("open");
    assert_eq!((ring.len(), ring.bytes()), (3, 10));
    ring.push(b"c", None).expect("open");
    assert_eq!((ring.first_seq(), ring.bytes()), (2, 6));
}

#[test]
fn a_record_above_the_byte_limit_is_kept_alone() {
    let mut ring = counted(ring(100, 10), 3);
    assert_eq!(ring.push(&[7; 40_000], None), Ok(4));
    assert_eq!((ring.first_seq(), ring.len(), ring.bytes()), (4, 1, 40_000));
    assert_eq!(ring.push(b"after", None), Ok(5));
    assert_eq!((ring.first_seq(), ring.bytes()), (5, 5));
    assert!(ring.footprint() < 1_024, "the large page must be gone: {}", ring.footprint());
}

#[test]
fn a_limit_of_nothing_still_keeps_the_newest() {
    let ring = counted(ring(0, 0), 5);
    assert_eq!(bodies(&ring, 5), ["5=5"]);
}

#[test]
fn the_first_seal_wins_and_stands_last() {
    let mut ring = counted(ring(10, 1_000), 2);
    assert_eq!(ring.get(3), Ok(None));
    assert!(ring.seal("completed"));
    assert!(!ring.seal("failed"));
    assert_eq!(ring.end(), Some(&"completed"));
    assert_eq!(ring.push(b"late", None), Err(PushError::Sealed));
    assert_eq!(ring.get(3), Ok(Some(Record::Sealed(&"completed"))));
    assert_eq!(bodies(&ring, 1), ["1=1", "2=2", "sealed completed"]);
    assert_eq!(bodies(&ring, 3), ["sealed completed"]);
}

#[test]
fn only_who_stands_at_the_seal_has_seen_it_all() {
    let mut ring = counted(ring(10, 1_000), 2);
    assert!(!ring.seen_all(3));
    ring.seal("completed");
    let answers: Vec<bool> = (0..6).map(|seq| ring.seen_all(seq)).collect();
    assert_eq!(answers, [false, false, false, true, true, false]);
}

#[test]
fn a_position_from_the_future_belongs_to_another_epoch() {
    let mut ring = counted(ring(10, 1_000), 2);
    assert_eq!(ring.get(4), Err(Gap { from: 3, to: 3, reason: GapReason::Epoch }));
    assert_eq!(ring.get(u64::MAX), Err(Gap { from: 3, to: u64::MAX - 1, reason: GapReason::Epoch }));
    ring.seal("completed");
    assert_eq!(ring.get(4), Err(Gap { from: 3, to: 3, reason: GapReason::Epoch }));
}

#[test]
fn the_newest_record_of_a_kept_id_is_found_until_it_is_evicted() {
    let mut ring = ring(4, 1_000);
    for (body, id) in [("a", "x"), ("b", "y"), ("c", "x"), ("d", "")] {
        ring.push(body.as_bytes(), Some(id.as_bytes())).expect("open");
    }
    assert_eq!(ring.find_kept(b"x"), Some(3));
    assert_eq!(ring.find_kept(b"y"), Some(2));
    assert_eq!(ring.find_kept(b""), Some(4));
    assert_eq!(ring.find_kept(b"z"), None);
    ring.push(b"e", None).expect("open");
    ring.push(b"f", None).expect("open");
    assert_eq!(ring.find_kept(b"y"), None);
    let third = Entry { seq: 3, id: Some(b"x"), body: b"c" };
    assert_eq!(ring.get(3), Ok(Some(Record::Event(third))));
}

#[test]
fn memory_stays_within_five_quarters_of_the_payload() {
    for (size, max_bytes) in [(200, 256 << 10), (200, 1 << 20), (200, 4 << 20), (900, 256 << 10), (3_000, 512 << 10)] {
        let mut ring = ring(usize::MAX, max_bytes);
        let body = vec![b'x'; size];
        let fill = max_bytes / size;
        for pushed in 0..fill * 3 {
            ring.push(&body, None).expect("open");
            if pushed >= fill {
                let ratio = ring.footprint() as f64 / ring.bytes() as f64;
                assert!(ratio <= 1.25, "{ratio} with {size} byte events in {max_bytes} bytes");
            }
        }
    }
}

#[test]
fn alternating_sizes_do_not_leave_half_empty_pages_behind() {
    let mut ring = ring(usize::MAX, 1 << 20);
    for round in 0..200 {
        ring.push(&[b'x'; 200], None).expect("open");
        ring.push(&vec![b'y'; 9_000 + round], None).expect("open");
    }
    assert!(ring.footprint() * 4 <= ring.bytes() * 5, "{ring:?}");
}

#[test]
fn a_few_short_events_cost_one_small_page() {
    let ring = counted(Ring::new(ROOMY), 5);
    assert!(ring.footprint() <= 768, "{}", ring.footprint());
}

#[test]
fn compacting_gives_the_slack_back_and_changes_no_record() {
    let mut ring = counted(ring(700, 1 << 20), 1_000);
    ring.seal("completed");
    let before = (ring.footprint(), bodies(&ring, 301));
    ring.compact();
    assert!(ring.footprint() < before.0);
    assert_eq!(bodies(&ring, 301), before.1);
    let settled = ring.footprint();
    ring.compact();
    assert_eq!(ring.footprint(), settled);
}

#[test]
fn compacting_keeps_ids_where_they_belong() {
    let mut ring = ring(3, 1_000);
    for (body, id) in [("a", Some("1")), ("b", None), ("c", Some("3")), ("", Some("")), ("e", None)] {
        ring.push(body.as_bytes(), id.map(str::as_bytes)).expect("open");
    }
    ring.compact();
    let entries: Vec<_> = ring.iter_from(3).expect("no gap").collect();
    let expected: Vec<Record<'_, &str>> = vec![
        Record::Event(Entry { seq: 3, id: Some(b"3"), body: b"c" }),
        Record::Event(Entry { seq: 4, id: Some(b""), body: b"" }),
        Record::Event(Entry { seq: 5, id: None, body: b"e" }),
    ];
    assert_eq!(entries, expected);
    assert_eq!(ring.find_kept(b"3"), Some(3));
}

#[test]
fn a_budget_takes_slack_first_and_then_the_oldest() {
    let mut ring = counted(Ring::new(ROOMY), 10);
    let slack_only = ring.bytes() + 10 * 4 + size_of::<Chunk>();
    assert_eq!(ring.shrink_to(slack_only), 0);
    assert_eq!(ring.footprint(), slack_only);
    assert_eq!(bodies(&ring, 1).len(), 10);

    let mut ring = counted(Ring::new(ROOMY), 10_000);
    let gone = ring.shrink_to(20_000);
    assert!((1..10_000).contains(&gone), "{gone}");
    assert!(ring.footprint() <= 20_000);
    assert_eq!((ring.first_seq(), ring.evicted()), (gone + 1, gone));
    assert_eq!(ring.get(gone), Err(Gap { from: gone, to: gone, reason: GapReason::Evicted }));
    assert_eq!(ring.push(b"more", None), Ok(10_001));
}

#[test]
fn a_budget_of_nothing_empties_the_ring_but_not_its_numbering() {
    let mut ring = counted(Ring::new(ROOMY), 100);
    assert_eq!(ring.shrink_to(0), 100);
    assert_eq!((ring.footprint(), ring.bytes(), ring.len()), (0, 0, 0));
    assert_eq!(ring.push(b"more", None), Ok(101));
    assert_eq!(bodies(&ring, 101), ["101=more"]);
}

#[test]
fn a_copy_begins_in_the_midst_and_has_evicted_nothing_itself() {
    let mut ring: Ring<&str> = Ring::starting_at(RingLimits { max_events: 2, max_bytes: 1_000 }, 41);
    assert_eq!((ring.first_seq(), ring.next_seq(), ring.len(), ring.evicted()), (41, 41, 0, 0));
    assert_eq!(ring.get(7), Err(Gap { from: 7, to: 40, reason: GapReason::Evicted }));
    assert_eq!(ring.get(41), Ok(None));
    for seq in 41..=43 {
        assert_eq!(ring.push(b"x", None), Ok(seq));
    }
    assert_eq!((ring.evicted(), ring.shrink_to(0), ring.evicted()), (1, 2, 3));
    assert_eq!(Ring::<()>::starting_at(ROOMY, 0).next_seq(), 1);
}

#[test]
fn records_that_were_taken_back_are_said_anew_under_the_same_numbers() {
    let mut ring = counted(Ring::new(ROOMY), 1_000);
    ring.truncate(1_001);
    assert_eq!(ring.next_seq(), 1_001, "there is no such record");
    ring.truncate(3);
    assert_eq!((ring.next_seq(), ring.len(), ring.bytes(), ring.evicted()), (3, 2, 2, 0));
    assert!(ring.footprint() <= 1_024, "pages behind the cut must be gone: {}", ring.footprint());
    assert_eq!(ring.get(4), Err(Gap { from: 3, to: 3, reason: GapReason::Epoch }));
    assert_eq!(ring.push(b"other", Some(b"id")), Ok(3));
    assert_eq!(bodies(&ring, 1), ["1=1", "2=2", "3=other"]);
    assert_eq!(ring.find_kept(b"id"), Some(3));
    ring.truncate(3);
    assert_eq!((ring.find_kept(b"id"), ring.bytes()), (None, 2));
}

#[test]
fn a_ring_cut_before_its_oldest_record_begins_there() {
    let mut ring = counted(ring(3, 1_000), 10);
    ring.truncate(8);
    assert_eq!(
        (ring.first_seq(), ring.next_seq(), ring.footprint()),
        (8, 8, ring.chunks.capacity() * size_of::<Chunk>())
    );
    ring.truncate(5);
    assert_eq!((ring.first_seq(), ring.next_seq(), ring.evicted()), (5, 5, 7));
    assert_eq!(ring.push(b"five", None), Ok(5));
    assert_eq!(ring.get(4), Err(Gap { from: 4, to: 4, reason: GapReason::Evicted }));
    assert_eq!(bodies(&ring, 5), ["5=five"]);
}

#[test]
fn a_hole_is_named_as_lost_until_evictions_have_passed_it() {
    let mut ring = counted(ring(2, 1_000), 4);
    ring.lose_until(5);
    assert_eq!((ring.first_seq(), ring.evicted()), (3, 2), "nothing is missing between 4 and 5");
    ring.lose_until(9);
    assert_eq!((ring.first_seq(), ring.next_seq(), ring.bytes(), ring.evicted()), (9, 9, 0, 2));
    for seq in 9..=10 {
        assert_eq!(ring.push(b"x", None), Ok(seq));
    }
    assert_eq!(ring.get(2), Err(Gap { from: 2, to: 8, reason: GapReason::Lost }));
    assert_eq!(ring.push(b"x", None), Ok(11));
    assert_eq!(ring.get(2), Err(Gap { from: 2, to: 9, reason: GapReason::Evicted }));
}

#[test]
fn a_hole_that_was_cut_off_is_forgotten() {
    let mut ring = counted(ring(2, 1_000), 4);
    ring.lose_until(9);
    ring.truncate(6);
    assert_eq!(ring.get(5), Err(Gap { from: 5, to: 5, reason: GapReason::Evicted }));
    for seq in 6..=10 {
        assert_eq!(ring.push(b"x", None), Ok(seq));
    }
    assert_eq!(ring.get(8), Err(Gap { from: 8, to: 8, reason: GapReason::Evicted }), "8 was here this time");
}

#[test]
fn the_end_of_a_sealed_log_does_not_move() {
    let mut ring = counted(ring(10, 1_000), 3);
    ring.seal("completed");
    ring.truncate(2);
    ring.lose_until(9);
    assert_eq!(bodies(&ring, 1), ["1=1", "2=2", "3=3", "sealed completed"]);
}

#[test]
fn a_copy_of_a_log_with_absurd_numbers_takes_nothing_more_and_breaks_nothing() {
    let mut ring: Ring<()> = Ring::starting_at(ROOMY, u64::MAX - 1);
    assert_eq!(ring.push(b"x", None), Ok(u64::MAX - 1));
    assert_eq!(ring.push(b"x", None), Err(PushError::Exhausted));
    ring.lose_until(u64::MAX);
    ring.truncate(u64::MAX - 1);
    assert_eq!(ring.push(b"y", None), Ok(u64::MAX - 1));
    assert_eq!((ring.len(), ring.get(u64::MAX)), (1, Ok(None)));
}
