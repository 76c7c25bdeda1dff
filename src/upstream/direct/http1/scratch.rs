//! One buffer for each thread, which all streams that are read on it share: a silent stream holds none.

use std::cell::RefCell;

/// Bytes of the buffer: what one read can bring, and the largest head of an answer. An event stream that is far behind
/// is read in pieces of this size; together with the ids that clients get, one fits into one write to them.
pub const SIZE: usize = 64 * 1024;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SIZE].into_boxed_slice());
}

/// Lends this thread's buffer, with whatever was left in it.
///
/// # Panics
/// When it is lent already: what gets bytes out of it must not read another stream meanwhile.
pub fn with<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    SCRATCH.with_borrow_mut(|scratch| work(scratch))
}
