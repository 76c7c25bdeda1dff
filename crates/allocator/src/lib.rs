//! The allocator of the proxy, and the one thing that has to be asked of it.
//!
//! Freed pages are given back bit by bit while a program allocates and frees. A proxy whose streams have been opened is
//! silent: without being asked, it would keep for ever what opening them took. Settings: `.cargo/config.toml`.

use std::ptr::null_mut;

pub use tikv_jemallocator::Jemalloc;

/// Gives those pages back to the system that have been free for as long as the settings say. To be called now and then;
/// harmless where jemalloc is not the allocator.
#[allow(unsafe_code)]
pub fn give_back() {
    // 4096 stands for all arenas (`MALLCTL_ARENAS_ALL`).
    // SAFETY: the name ends in NUL. By jemalloc(3), `arena.<i>.decay` neither reads nor writes a value, which null
    // pointers and a length of 0 say. It may be called from any thread at any time.
    let _ = unsafe { tikv_jemalloc_sys::mallctl(c"arena.4096.decay".as_ptr(), null_mut(), null_mut(), null_mut(), 0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[global_allocator]
    static ALLOCATOR: Jemalloc = Jemalloc;

    fn resident() -> usize {
        let status = std::fs::read_to_string("/proc/self/statm").unwrap();
        status.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    }

    #[test]
    fn what_is_free_goes_back_though_nobody_allocates() {
        let before = resident();
        // Of a size that is kept for the next one, and many: mapped one by one they would go back at once.
        let held: Vec<_> = (0..4096).map(|_| vec![1_u8; 4096]).collect();
        assert!(resident() >= before + (12 << 20));
        drop(held);
        let gone_back = (0..400).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(50));
            give_back();
            resident() <= before + (4 << 20)
        });
        assert!(gone_back, "{} bytes are still held", resident() - before);
    }
}
