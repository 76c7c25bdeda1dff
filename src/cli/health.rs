//! `streamkeeper health`: asks a running proxy for `/readyz`, as a container's health check does.
//!
//! Plain HTTP/1.1 to the admin port, nothing else; no redirect, no TLS, and nothing is waited for longer than a moment.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// For the whole question.
const PATIENCE: Duration = Duration::from_secs(2);
/// The answer is one line; more than this is something else's.
const ANSWER: usize = 16 * 1024;

/// Whether the proxy whose admin port is at `admin` is ready.
///
/// # Errors
/// The reason why not, for a person.
pub(crate) fn ask(admin: SocketAddr) -> Result<(), String> {
    let answer = exchange(admin).map_err(|error| format!("{admin} does not answer: {error}"))?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).filter(|_| head.len() > 12);
    match status {
        Some("200") => Ok(()),
        Some("503") => Err(format!("{admin} is not ready: {}", body.trim())),
        Some(status) => Err(format!("{admin} answers with status {status}; is it the admin port?")),
        None => Err(format!("{admin} does not speak HTTP/1.1; is it the admin port?")),
    }
}

fn exchange(admin: SocketAddr) -> io::Result<Vec<u8>> {
    let until = Instant::now() + PATIENCE;
    let left = || match until.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(io::Error::from(io::ErrorKind::TimedOut)),
        left => Ok(left),
    };
    let mut stream = TcpStream::connect_timeout(&admin, PATIENCE)?;
    stream.set_write_timeout(Some(left()?))?;
    stream.write_all(format!("GET /readyz HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    let mut piece = [0; 1024];
    while answer.len() < ANSWER {
        stream.set_read_timeout(Some(left()?))?;
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(n) => answer.extend(piece.iter().take(n)),
            // What the system calls it when a read took too long.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(io::ErrorKind::TimedOut.into()),
            Err(error) => return Err(error),
        }
    }
    Ok(answer)
}
