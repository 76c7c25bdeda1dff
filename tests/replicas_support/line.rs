//! A line to a server that can be cut, stand still, or be slow, as networks are. The server behind it notices nothing
//! but that.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What the line does with what it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Nobody gets through, and who was through is hung up on.
    Cut,
    /// What is said is heard; answers wait.
    Still,
    /// Every piece of an answer comes so much later.
    Slow(Duration),
}

/// A line; it is gone when it is dropped.
#[derive(Debug)]
pub struct Line {
    /// Where its near end listens.
    pub port: u16,
    state: watch::Sender<State>,
    _carrying: JoinSet<()>,
}

impl Line {
    /// A line to this port of this machine. Call inside a runtime.
    pub fn to(port: u16) -> Self {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a loopback port");
        listener.set_nonblocking(true).expect("a socket that does not block");
        let near = listener.local_addr().expect("its address").port();
        let listener = TcpListener::from_std(listener).expect("a listener");
        let state = watch::Sender::new(State::Open);
        let mut carrying = JoinSet::new();
        carrying.spawn(listen(listener, port, state.subscribe()));
        Self { port: near, state, _carrying: carrying }
    }

    /// Hangs up on everybody, and lets nobody through.
    pub fn cut(&self) {
        self.state.send_replace(State::Cut);
    }

    /// What is said still gets through; what is answered waits here.
    pub fn stand_still(&self) {
        self.state.send_replace(State::Still);
    }

    /// Every piece of an answer comes later by `delay`.
    pub fn slow_down(&self, delay: Duration) {
        self.state.send_replace(State::Slow(delay));
    }

    /// All is well from now on.
    pub fn mend(&self) {
        self.state.send_replace(State::Open);
    }
}

async fn listen(listener: TcpListener, port: u16, state: watch::Receiver<State>) {
    let mut carried = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        while carried.try_join_next().is_some() {}
        if *state.borrow() != State::Cut {
            carried.spawn(connect(near, port, state.clone()));
        }
    }
}

async fn connect(near: TcpStream, port: u16, mut state: watch::Receiver<State>) {
    let Ok(far) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    for socket in [&near, &far] {
        let _ = socket.set_nodelay(true);
    }
    let ((mut near_in, mut near_out), (mut far_in, mut far_out)) = (near.into_split(), far.into_split());
    let asking = async { tokio::io::copy(&mut near_in, &mut far_out).await.map(|_| ()) };
    let mut answers = state.clone();
    let answering = async {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = far_in.read(&mut buffer).await?;
            let _ = answers.wait_for(|state| *state != State::Still).await;
            let now = *answers.borrow();
            if let State::Slow(delay) = now {
                tokio::time::sleep(delay).await;
            }
            if read == 0 {
                return Ok::<_, std::io::Error>(());
            }
            near_out.write_all(&buffer[..read]).await?;
        }
    };
    tokio::select! {
        _ = asking => {}
        _ = answering => {}
        _ = state.wait_for(|state| *state == State::Cut) => {}
    }
}
