//! Counted work: how often the whole proxy asks the allocator for memory per event, once a stream runs. The counter is
//! the test process' own allocator; upstream and client are one plain thread that allocates nothing meanwhile.
//!
//! Other counts (instructions, system calls) need tools and time: `make count`.

mod support;

use std::alloc::System;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use support::Proxy;
use tokio::sync::Mutex;

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const PATIENCE: Duration = Duration::from_secs(20);
/// The counter counts for the whole process: one at a time.
static ALONE: Mutex<()> = Mutex::const_new(());
/// Enough for the ring to be at its cap and all buffers to have the size they need.
const WARM: usize = 40;
/// Windows in which is counted. The least counts: the others may hold what the process does beside the stream.
const WINDOWS: usize = 8;
/// A ring that is full soon.
const SMALL: &str = "[session]\nmax_events = 64\n[[routes]]\ncommit_after = '20ms'\n";

/// Both ends of one stream through the proxy.
struct Ends {
    upstream: TcpStream,
    client: TcpStream,
    buffer: Box<[u8]>,
    /// The last byte that was read.
    last: u8,
}

impl Ends {
    /// A client's request, and the upstream's answer to it as far as its head.
    fn open(listener: &TcpListener, proxy: SocketAddr) -> Self {
        let mut client = TcpStream::connect(proxy).expect("the proxy listens");
        let request = format!("GET /events HTTP/1.1\r\nhost: {proxy}\r\naccept: text/event-stream\r\n\r\n");
        client.write_all(request.as_bytes()).expect("a request");
        let (mut upstream, _) = listener.accept().expect("the proxy dials");
        for socket in [&client, &upstream] {
            socket.set_nodelay(true).expect("a socket");
            socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
        }
        let mut buffer = vec![0; 64 * 1024].into_boxed_slice();
        read_head(&mut upstream, &mut buffer);
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        upstream.write_all(head.as_bytes()).expect("a head");
        read_head(&mut client, &mut buffer);
        Self { upstream, client, buffer, last: 0 }
    }

    /// Sends what holds so many events, and reads until they are there.
    fn pass(&mut self, wire: &[u8], events: usize) {
        self.upstream.write_all(wire).expect("the proxy reads");
        let mut seen = 0;
        while seen < events {
            let read = self.client.read(&mut self.buffer).expect("events in time");
            assert!(read > 0, "the stream ended");
            for byte in &self.buffer[..read] {
                seen += usize::from((self.last, *byte) == (b'\n', b'\n'));
                self.last = *byte;
            }
        }
    }
}

/// Reads up to the blank line, byte by byte: what follows stays in the socket.
fn read_head(socket: &mut TcpStream, buffer: &mut [u8]) {
    let mut filled = 0;
    while !buffer[..filled].ends_with(b"\r\n\r\n") {
        socket.read_exact(&mut buffer[filled..=filled]).expect("a head");
        filled += 1;
    }
}

/// Events of about 200 bytes, each in a chunk of its own.
fn wire(events: usize) -> Vec<u8> {
    let event = format!("event: data\ndata: {{\"content\":\"{}\"}}\n\n", "x".repeat(160));
    format!("{:x}\r\n{event}\r\n", event.len()).repeat(events).into_bytes()
}

/// Allocations per event, of all threads, while writes of so many events pass one after the other.
async fn allocations_per_event(settings: &str, per_write: usize, writes: usize) -> f64 {
    let _alone = ALONE.lock().await;
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let proxy = Proxy::at(&[address], settings).await;
    let to = proxy.address;
    let counting = tokio::task::spawn_blocking(move || {
        let mut ends = Ends::open(&listener, to);
        let wire = wire(per_write);
        (0..WARM).for_each(|_| ends.pass(&wire, per_write));
        let window = |_| {
            let before = COUNTED.stats();
            (0..writes).for_each(|_| ends.pass(&wire, per_write));
            let after = COUNTED.stats();
            let grown = after.reallocations - before.reallocations;
            after.allocations - before.allocations + grown
        };
        let least = (0..WINDOWS).map(window).min().expect("windows");
        least as f64 / (per_write * writes) as f64
    });
    counting.await.expect("the stream runs")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_by_itself_costs_no_allocation() {
    assert_eq!(allocations_per_event(SMALL, 1, 200).await, 0.0, "allocations per event, one event per write");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_of_a_burst_costs_no_allocation() {
    assert_eq!(allocations_per_event(SMALL, 50, 20).await, 0.0, "allocations per event, fifty per write");
}
