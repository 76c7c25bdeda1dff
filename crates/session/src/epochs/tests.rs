use proptest::prelude::*;

use super::*;

/// The epoch 1, and what followed it.
fn story(later: &[(u32, u64, Splice)]) -> Epochs {
    let mut epochs = Epochs::new(1);
    for &(epoch, first, splice) in later {
        assert!(epochs.begin(epoch, first));
        epochs.settle(splice);
    }
    epochs
}

fn void(from: u64, to: u64) -> Stand {
    Stand::Void { gap: Gap { from, to, reason: GapReason::Epoch }, at: from }
}

#[test]
fn with_one_epoch_everybody_goes_on_after_what_they_saw_and_nothing_is_allocated() {
    let epochs = Epochs::new(1);
    assert_eq!((epochs.current(), epochs.splice(), epochs.of(0), epochs.of(u64::MAX)), (1, Splice::Repeats, 1, 1));
    assert_eq!((epochs.stand(1, 0), epochs.stand(1, 7)), (Stand::At(1), Stand::At(8)));
    assert_eq!(epochs.stand(1, u64::MAX), Stand::At(u64::MAX));
    assert_eq!((epochs.stand(0, 7), epochs.stand(2, 7)), (Stand::Unknown, Stand::Unknown));
    assert!(epochs.earlier.is_empty());
    assert_eq!(epochs.iter().collect::<Vec<_>>(), [(1, 1, Splice::Repeats)]);
}

#[test]
fn events_belong_to_the_latest_epoch_that_began_before_them() {
    let epochs = story(&[(2, 10, Splice::Repeats), (5, 20, Splice::Repeats)]);
    let names: Vec<u32> = [0, 1, 9, 10, 19, 20, 99].into_iter().map(|seq| epochs.of(seq)).collect();
    assert_eq!(names, [1, 1, 1, 2, 2, 5, 5]);
    let voided = story(&[(2, 10, Splice::Repeats), (3, 4, Splice::Repeats)]);
    let names: Vec<u32> = [3, 4, 10].into_iter().map(|seq| voided.of(seq)).collect();
    assert_eq!(names, [1, 3, 3], "the second has nothing left");
}

#[test]
fn no_epoch_begins_twice_or_after_a_later_one() {
    let mut epochs = story(&[(3, 10, Splice::Differs)]);
    let before = epochs.clone();
    assert!(!epochs.begin(3, 12) && !epochs.begin(2, 12));
    assert_eq!(epochs, before);
}

#[test]
fn what_was_said_about_an_epoch_once_stays() {
    let mut epochs = story(&[(2, 10, Splice::Open)]);
    assert_eq!(epochs.splice(), Splice::Open);
    epochs.settle(Splice::Differs);
    epochs.settle(Splice::Repeats);
    assert_eq!(epochs.splice(), Splice::Differs);
}

#[test]
fn before_the_border_nothing_has_changed_whatever_came_behind_it() {
    for splice in Splice::ALL {
        let epochs = story(&[(2, 10, splice)]);
        assert_eq!((epochs.stand(1, 5), epochs.stand(1, 9)), (Stand::At(6), Stand::At(10)), "{splice:?}");
        assert_eq!((epochs.stand(2, 10), epochs.stand(2, 12)), (Stand::At(11), Stand::At(13)), "{splice:?}");
    }
}

#[test]
fn beyond_the_border_the_splice_decides() {
    let stand = |splice| story(&[(2, 10, splice)]).stand(1, 12);
    assert_eq!(stand(Splice::Open), Stand::Ahead(13));
    assert_eq!(stand(Splice::Repeats), Stand::Ahead(13));
    assert_eq!(stand(Splice::Differs), void(10, 12));
    assert_eq!(stand(Splice::Ends), Stand::At(10));
}

#[test]
fn each_later_epoch_has_its_say_and_one_that_differs_is_not_undone() {
    use Splice::{Differs, Ends, Open, Repeats};
    let stand = |later: &[(u32, u64, Splice)], epoch, seq| story(later).stand(epoch, seq);
    assert_eq!(stand(&[(2, 10, Repeats), (3, 12, Differs)], 1, 14), void(12, 14));
    assert_eq!(stand(&[(2, 10, Differs), (3, 12, Repeats)], 1, 14), void(10, 14));
    assert_eq!(stand(&[(2, 10, Differs), (3, 12, Repeats)], 2, 14), Stand::Ahead(15));
    assert_eq!(stand(&[(2, 10, Differs), (3, 8, Differs)], 1, 14), void(8, 14));
    assert_eq!(stand(&[(2, 10, Differs), (3, 12, Ends)], 1, 14), void(10, 14));
    assert_eq!(stand(&[(2, 10, Differs), (3, 10, Ends)], 1, 14), Stand::At(10));
    assert_eq!(stand(&[(2, 10, Repeats), (3, 12, Open)], 1, 10), Stand::Ahead(11));
}

#[test]
fn an_owner_that_wrote_and_never_said_how_it_goes_on_is_taken_to_differ() {
    use Splice::{Differs, Open, Repeats};
    let came_to = |splice, next| story(&[(2, 10, splice), (3, next, Repeats)]).iter().nth(1).map(|(.., splice)| splice);
    assert_eq!((came_to(Open, 10), came_to(Open, 11)), (Some(Open), Some(Differs)));
    assert_eq!((came_to(Differs, 10), came_to(Repeats, 11)), (Some(Differs), Some(Repeats)));
}

#[test]
fn an_error_that_was_shown_and_never_written_ended_nothing() {
    use Splice::{Differs, Ends, Repeats};
    let taken_back = story(&[(2, 10, Ends), (3, 10, Repeats)]);
    assert_eq!(taken_back.stand(1, 12), Stand::Ahead(13));
    assert_eq!(taken_back.stand(2, 10), Stand::At(10), "instead of the tenth event it saw the error");
    assert_eq!(story(&[(2, 10, Ends), (3, 10, Differs)]).stand(1, 12), void(10, 12));
    let written = story(&[(2, 10, Ends), (3, 11, Ends)]);
    assert_eq!((written.stand(1, 12), written.stand(2, 10)), (Stand::At(10), Stand::At(11)));
}

#[test]
fn the_stored_form_of_a_splice_is_read_back_and_nothing_else_is() {
    for splice in Splice::ALL {
        assert_eq!(Splice::from_wire(splice.as_str()), Some(splice));
    }
    assert_eq!(Splice::from_wire("Open"), None);
}

/// What stands at a place of a log.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Place {
    /// Who wrote it down.
    hand: u32,
    /// Whose words they are.
    words: u32,
    /// The error of one that ends, in the place of the words.
    end: bool,
}

/// Each epoch's whole log, event by event, as it is or would be if it lived on. The first place is the seq 1.
struct Naive(Vec<(u32, Vec<Place>)>);

const LEN: usize = 24;

impl Naive {
    fn new(epoch: u32) -> Self {
        Self(vec![(epoch, vec![Place { hand: epoch, words: epoch, end: false }; LEN])])
    }

    fn follow(&mut self, epoch: u32, first: u64, splice: Splice) {
        let mut log = self.current().to_vec();
        for place in log.iter_mut().skip(first as usize - 1) {
            let words = if splice == Splice::Differs { epoch } else { place.words };
            *place = Place { hand: epoch, words, end: splice == Splice::Ends };
        }
        self.0.push((epoch, log));
    }

    fn current(&self) -> &[Place] {
        &self.0.last().expect("there is a first").1
    }

    /// Each event is shown under the name of its epoch, and nothing after an error.
    fn may_have_shown(&self, epoch: u32, seq: u64) -> bool {
        let Some((_, log)) = self.0.iter().find(|(known, _)| *known == epoch) else { return true };
        let Some((last, before)) = log[..seq as usize].split_last() else { return true };
        last.hand == epoch && before.iter().all(|place| !place.end)
    }

    /// Compares what the client has with what is in the log now.
    fn stand(&self, epoch: u32, seq: u64) -> Stand {
        let Some((_, log)) = self.0.iter().find(|(known, _)| *known == epoch) else { return Stand::Unknown };
        let (mut seen, now) = (&log[..seq as usize], self.current());
        // An error that is not in the log is no event.
        if let Some(at) = seen.iter().zip(now).position(|(seen, now)| seen.end && seen != now) {
            seen = &seen[..at];
        }
        let (last, next) = (seen.len() as u64, seen.len() as u64 + 1);
        if let Some(at) = seen.iter().zip(now).position(|(seen, now)| (seen.words, seen.end) != (now.words, now.end)) {
            let border = at as u64 + 1;
            return if now[at].end { Stand::At(border) } else { void(border, last) };
        }
        let same_hand = seen.iter().zip(now).all(|(seen, now)| seen.hand == now.hand);
        // Nobody waits for an error that is there.
        if same_hand || now[seen.len()].end { Stand::At(next) } else { Stand::Ahead(next) }
    }
}

fn splices() -> impl Strategy<Value = Splice> {
    prop::sample::select(Splice::ALL.to_vec())
}

/// Later epochs: by how much each is above the one before, where it begins, how it goes on.
fn stories() -> impl Strategy<Value = Vec<(u32, u64, Splice)>> {
    prop::collection::vec((1_u32..3, 1_u64..20, splices()), 0..6).prop_map(|mut later| {
        let mut epoch = 1;
        for (step, ..) in &mut later {
            epoch += *step;
            *step = epoch;
        }
        later
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn where_a_client_stands_is_what_comparing_event_by_event_says(
        later in stories(), epoch in 0_u32..12, seq in 0_u64..20,
    ) {
        let epochs = story(&later);
        let mut naive = Naive::new(1);
        for (epoch, first, splice) in epochs.iter().skip(1) {
            naive.follow(epoch, first, splice);
        }
        for seq in 1..LEN {
            prop_assert_eq!(epochs.of(seq as u64), naive.current()[seq - 1].hand);
        }
        // Most names that one could think of were never given.
        let seq = (0..=seq).rfind(|seq| naive.may_have_shown(epoch, *seq)).unwrap_or_default();
        prop_assert_eq!(epochs.stand(epoch, seq), naive.stand(epoch, seq));
    }

    #[test]
    fn a_client_that_names_an_event_as_the_log_does_goes_on_after_it(later in stories(), seq in 1_u64..20) {
        let epochs = story(&later);
        prop_assert_eq!(epochs.stand(epochs.of(seq), seq), Stand::At(seq + 1));
    }

    #[test]
    fn a_story_told_again_is_the_same_story(later in stories()) {
        let epochs = story(&later);
        let mut again = Epochs::new(1);
        for (epoch, first, splice) in epochs.iter().skip(1) {
            prop_assert!(again.begin(epoch, first));
            again.settle(splice);
        }
        prop_assert_eq!(again, epochs);
    }
}
