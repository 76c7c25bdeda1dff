use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use super::*;

#[derive(Default)]
struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Bell {
    fn rung(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Polls for a number above `seen`.
fn look(follower: &mut Follower<u32>, bell: &Arc<Bell>, seen: u32) -> Poll<u32> {
    let waker = Waker::from(Arc::clone(bell));
    follower.poll(&mut Context::from_waker(&waker), |state| (*state > seen).then_some(*state))
}

#[test]
fn a_waiting_follower_is_woken_once_per_wait() {
    let tail = Arc::new(Tail::new(0));
    let (mut follower, bell) = (tail.follow(), Arc::new(Bell::default()));
    assert_eq!(look(&mut follower, &bell, 0), Poll::Pending);
    tail.update(|state| *state = 1);
    tail.update(|state| *state = 2);
    assert_eq!(bell.rung(), 1);
    assert_eq!(look(&mut follower, &bell, 0), Poll::Ready(2));
    tail.update(|state| *state = 3);
    assert_eq!(bell.rung(), 1, "who does not wait is not woken");
}

#[test]
fn who_has_an_answer_may_wait_for_more_with_it() {
    let tail = Arc::new(Tail::new(7));
    let (mut follower, bell) = (tail.follow(), Arc::new(Bell::default()));
    let waker = Waker::from(Arc::clone(&bell));
    let mut look = |wait| follower.look(&mut Context::from_waker(&waker), |state| (*state, wait));
    assert_eq!(look(true), 7);
    tail.update(|state| *state = 8);
    assert_eq!((bell.rung(), look(false)), (1, 8));
    tail.update(|state| *state = 9);
    assert_eq!(bell.rung(), 1);
}

#[test]
fn an_answer_takes_the_waker_back() {
    let tail = Arc::new(Tail::new(0));
    let (mut follower, bell) = (tail.follow(), Arc::new(Bell::default()));
    assert_eq!(look(&mut follower, &bell, 0), Poll::Pending);
    let waker = Waker::from(Arc::clone(&bell));
    assert_eq!(follower.poll(&mut Context::from_waker(&waker), |_| Some(())), Poll::Ready(()));
    tail.update(|state| *state = 1);
    assert_eq!(bell.rung(), 0);
}

#[test]
fn the_last_task_to_poll_is_the_one_that_wakes() {
    let tail = Arc::new(Tail::new(0));
    let mut follower = tail.follow();
    let bells = [Arc::new(Bell::default()), Arc::new(Bell::default())];
    for bell in &bells {
        assert_eq!(look(&mut follower, bell, 0), Poll::Pending);
    }
    tail.update(|state| *state = 1);
    assert_eq!(bells.map(|bell| bell.rung()), [0, 1]);
}

#[test]
fn polling_again_with_the_same_waker_clones_nothing() {
    let tail = Arc::new(Tail::new(0));
    let (mut follower, bell) = (tail.follow(), Arc::new(Bell::default()));
    let waker = Waker::from(Arc::clone(&bell));
    let mut cx = Context::from_waker(&waker);
    for _ in 0..3 {
        assert_eq!(follower.poll(&mut cx, |_| None::<()>), Poll::Pending);
        assert_eq!(Arc::strong_count(&bell), 3, "the test's, its waker's and the slot's");
    }
}

#[test]
fn every_follower_has_its_own_slot_and_gives_it_back() {
    let tail = Arc::new(Tail::new(0));
    let mut followers: Vec<_> = (0..4).map(|_| (tail.follow(), Arc::new(Bell::default()))).collect();
    assert_eq!(tail.followers(), 4);
    followers.remove(1);
    followers.push((tail.follow(), Arc::new(Bell::default())));
    assert_eq!(tail.followers(), 4);
    for (follower, bell) in &mut followers {
        assert_eq!(look(follower, bell, 0), Poll::Pending);
    }
    tail.update(|state| *state = 1);
    assert!(followers.iter().all(|(_, bell)| bell.rung() == 1));
    drop(followers);
    assert_eq!(tail.followers(), 0);
    assert_eq!(tail.lock().slots.more.len(), 0, "freed slots do not pile up");
}

#[test]
fn who_left_is_not_woken_and_not_remembered() {
    let tail = Arc::new(Tail::new(0));
    let (mut follower, bell) = (tail.follow(), Arc::new(Bell::default()));
    assert_eq!(look(&mut follower, &bell, 0), Poll::Pending);
    drop(follower);
    assert_eq!(Arc::strong_count(&bell), 1);
    tail.update(|state| *state = 1);
    assert_eq!(bell.rung(), 0);
}

#[test]
fn a_panic_in_the_writer_leaves_the_followers_alive() {
    let tail = Arc::new(Tail::new(0));
    let (mut follower, bell) = (tail.follow(), Arc::new(Bell::default()));
    let writer = std::panic::AssertUnwindSafe(|| tail.update(|_| panic!("on purpose")));
    assert!(std::panic::catch_unwind(writer).is_err());
    assert_eq!(look(&mut follower, &bell, 0), Poll::Pending);
    tail.update(|state| *state = 5);
    assert_eq!(look(&mut follower, &bell, 0), Poll::Ready(5));
}

#[test]
fn a_waker_that_owns_a_follower_can_be_dropped_by_its_own_tail() {
    struct Holder(std::sync::Mutex<Option<Follower<u32>>>);
    impl Wake for Holder {
        fn wake(self: Arc<Self>) {
            self.0.lock().expect("no panic").take();
        }
    }
    let tail = Arc::new(Tail::new(0));
    let holder = Arc::new(Holder(std::sync::Mutex::new(Some(tail.follow()))));
    let mut follower = tail.follow();
    {
        let waker = Waker::from(holder);
        let pending = follower.poll(&mut Context::from_waker(&waker), |_| None::<()>);
        assert_eq!(pending, Poll::Pending);
    }
    assert_eq!(tail.followers(), 2);
    drop(follower);
    assert_eq!(tail.followers(), 0);
}
