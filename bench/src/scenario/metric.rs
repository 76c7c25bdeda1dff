//! The figures, and what the tables call them.

/// One row of figures. The order is that of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Metric {
    /// CPU of the proxy, µs per event that a client got.
    Cpu,
    /// CPU of the proxy, ms per MB (10⁶ bytes) of events.
    CpuPerMb,
    /// How often a thread of the proxy was put on a CPU, per event.
    Slices,
    /// CPU of the store beside the proxy, µs per event.
    StoreCpu,
    /// Median latency, µs, from when an event was due to when a client had it.
    P50,
    /// 99th percentile of the same.
    P99,
    /// How late the upstream itself was, µs: part of the latency of every peer.
    Lateness,
    /// Seconds from the first event to the end of the last stream.
    Wall,
    /// Events per second, from the first one until the store holds the last.
    Stored,
    /// CPU of the proxy, µs per stream that was set up, had one event and ended.
    SetupCpu,
    /// CPU of the store, µs per such stream.
    SetupStoreCpu,
    /// Median time from a request, or from the connect before it, to its first event, µs.
    First50,
    /// 99th percentile of the same.
    First99,
    /// Streams per second, begun and ended.
    SetupRate,
    /// Connections that clients needed per stream.
    Connections,
    /// KiB of user memory per stream, before its first event.
    Empty,
    /// KiB of user memory per stream, after its first event.
    Opened,
    /// KiB of kernel objects per stream, of the whole machine.
    Slab,
    /// KiB of socket buffers per stream, of the whole machine.
    Buffers,
    /// MiB of user memory in all, while the streams are open.
    Held,
    /// Bytes of user memory per byte of event that a live session keeps.
    Kept,
    /// The same after the sessions have ended and their clients are gone.
    KeptEnded,
    /// Seconds from the first reconnect until the last client has what it missed.
    Replayed,
    /// CPU of the proxies, µs per client that came back.
    ReplayCpu,
    /// CPU of the store, µs per client that came back.
    ReplayStoreCpu,
    /// KiB in the store of a session with one event.
    KeptOne,
    /// KiB in the store of a session with all of its events.
    KeptAll,
    /// The same, by what the whole server allocated more.
    KeptUsed,
    /// Bytes in the store of each further event.
    KeptEvent,
    /// ms from running the program to the end of the first stream through it.
    Start,
    /// MiB resident, idle.
    IdleResident,
    /// MiB of user memory, idle.
    Idle,
    /// MiB of the program's file.
    Binary,
    /// Calls that read, per event.
    Recv,
    /// Those of them that found nothing.
    RecvAgain,
    /// Calls that send to a socket, per event.
    Send,
    /// `write` calls, per event: wakes of another thread, log lines.
    Write,
    /// `futex` calls, per event.
    Futex,
    /// `epoll_wait` calls, per event.
    EpollWait,
    /// All other calls, per event.
    OtherCalls,
    /// Calls that send, per call that read something.
    SendsPerRecv,
}

impl Metric {
    /// All, in the order of the tables.
    pub(crate) const ALL: [Self; 41] = [
        Self::Cpu,
        Self::CpuPerMb,
        Self::Slices,
        Self::StoreCpu,
        Self::P50,
        Self::P99,
        Self::Lateness,
        Self::Wall,
        Self::Stored,
        Self::SetupCpu,
        Self::SetupStoreCpu,
        Self::First50,
        Self::First99,
        Self::SetupRate,
        Self::Connections,
        Self::Empty,
        Self::Opened,
        Self::Slab,
        Self::Buffers,
        Self::Held,
        Self::Kept,
        Self::KeptEnded,
        Self::Replayed,
        Self::ReplayCpu,
        Self::ReplayStoreCpu,
        Self::KeptOne,
        Self::KeptAll,
        Self::KeptUsed,
        Self::KeptEvent,
        Self::Start,
        Self::IdleResident,
        Self::Idle,
        Self::Binary,
        Self::Recv,
        Self::RecvAgain,
        Self::Send,
        Self::Write,
        Self::Futex,
        Self::EpollWait,
        Self::OtherCalls,
        Self::SendsPerRecv,
    ];

    /// Whether a ratio says anything: not of what is the whole machine's, nor of counts, which are what they are.
    pub(crate) fn compares(self) -> bool {
        use Metric::{EpollWait, Futex, Lateness, OtherCalls, Recv, RecvAgain, Send, SendsPerRecv, Slab, Write};
        let incomparable =
            [Lateness, Slab, Metric::Buffers, Recv, RecvAgain, Send, Write, Futex, EpollWait, OtherCalls, SendsPerRecv];
        !incomparable.contains(&self)
    }

    /// What a row is called.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cpu => "CPU of the proxy, µs per event",
            Self::CpuPerMb => "CPU of the proxy, ms per MB of events",
            Self::Slices => "runs of a proxy thread per event",
            Self::StoreCpu => "CPU of redis-server, µs per event",
            Self::P50 => "latency p50, µs",
            Self::P99 => "latency p99, µs",
            Self::Lateness => "lateness of the upstream itself p99, µs",
            Self::Wall => "seconds per burst",
            Self::Stored => "events per second until Redis has all",
            Self::SetupCpu => "CPU of the proxy, µs per stream",
            Self::SetupStoreCpu => "CPU of redis-server, µs per stream",
            Self::First50 => "time to the first event p50, µs",
            Self::First99 => "time to the first event p99, µs",
            Self::SetupRate => "streams per second",
            Self::Connections => "client connections per stream",
            Self::Empty => "user memory per stream before its first event, KiB",
            Self::Opened => "user memory per stream after its first event, KiB",
            Self::Slab => "kernel objects per stream, whole machine, KiB",
            Self::Buffers => "socket buffers per stream, whole machine, KiB",
            Self::Held => "user memory in all, MiB",
            Self::Kept => "user memory per kept byte, live sessions",
            Self::KeptEnded => "user memory per kept byte, ended sessions",
            Self::Replayed => "seconds until all have what they missed",
            Self::ReplayCpu => "CPU of the proxies, µs per client",
            Self::ReplayStoreCpu => "CPU of redis-server, µs per client",
            Self::KeptOne => "Redis memory of a session of one event, KiB",
            Self::KeptAll => "Redis memory of a session of all its events, KiB",
            Self::KeptUsed => "the same by growth of the whole server, KiB",
            Self::KeptEvent => "Redis memory of each further event, bytes",
            Self::Start => "start to the end of the first stream, ms",
            Self::IdleResident => "resident memory, idle, MiB",
            Self::Idle => "user memory, idle, MiB",
            Self::Binary => "size of the program, MiB",
            Self::Recv => "recv per event",
            Self::RecvAgain => "recv that found nothing, per event",
            Self::Send => "send per event",
            Self::Write => "write per event (wakes, log)",
            Self::Futex => "futex per event",
            Self::EpollWait => "epoll_wait per event",
            Self::OtherCalls => "other calls per event",
            Self::SendsPerRecv => "sends per recv that found something",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_has_one_row_of_its_own() {
        let mut names: Vec<&str> = Metric::ALL.iter().map(|metric| metric.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Metric::ALL.len());
    }
}
