//! Requests, as far as the upstream needs them: which stream is asked for, and where the request ends.

use std::io;

use memchr::memmem;
use tokio::net::TcpStream;

use crate::event::STREAM_HEADER;

const READ: usize = 4096;

/// Reads one request off `socket` and returns the stream it asks for; `None` at the end of the connection.
/// `buffer` keeps what belongs to the next request.
///
/// # Errors
///
/// The connection's, or `InvalidData` for a request that is not one of this benchmark's.
pub(super) async fn read(socket: &TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<u32>> {
    loop {
        if let Some(end) = memmem::find(buffer, b"\r\n\r\n") {
            let head = Head::parse(buffer.get(..end).unwrap_or_default()).ok_or(io::ErrorKind::InvalidData)?;
            let whole = end + 4 + head.body;
            if buffer.len() >= whole {
                buffer.drain(..whole);
                // Idle connections should not keep what one request needed.
                buffer.shrink_to_fit();
                return Ok(Some(head.stream));
            }
        }
        if !read_more(socket, buffer).await? {
            return Ok(None);
        }
    }
}

async fn read_more(socket: &TcpStream, buffer: &mut Vec<u8>) -> io::Result<bool> {
    loop {
        socket.readable().await?;
        let mut piece = [0; READ];
        match socket.try_read(&mut piece) {
            Ok(read) => {
                buffer.extend_from_slice(piece.get(..read).unwrap_or_default());
                return Ok(read > 0);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Head {
    stream: u32,
    body: usize,
}

impl Head {
    /// `None` without a stream's index, or with a body whose length is not said at the start.
    fn parse(head: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(head).ok()?;
        let (mut stream, mut body) = (None, 0);
        for line in text.split("\r\n").skip(1) {
            let (name, value) = line.split_once(':')?;
            if name.eq_ignore_ascii_case(STREAM_HEADER) {
                stream = Some(value.trim().parse().ok()?);
            } else if name.eq_ignore_ascii_case("content-length") {
                body = value.trim().parse().ok()?;
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                return None;
            }
        }
        Some(Self { stream: stream?, body })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Ask, Shape};

    fn parse(request: &[u8]) -> Option<Head> {
        Head::parse(request.get(..memmem::find(request, b"\r\n\r\n")?)?)
    }

    #[test]
    fn the_clients_own_requests_are_understood() {
        let get = Shape::Generic.request("127.0.0.1:1", 17, Ask::Stream);
        assert_eq!(parse(&get), Some(Head { stream: 17, body: 0 }));
        let post = Shape::OpenAi.request("127.0.0.1:1", 3, Ask::Stream);
        let body = post.len() - (memmem::find(&post, b"\r\n\r\n").expect("a head") + 4);
        assert_eq!(parse(&post), Some(Head { stream: 3, body }));
    }

    #[test]
    fn names_may_be_written_in_any_case() {
        let request = b"POST / HTTP/1.1\r\nX-Bench-Stream: 5\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(parse(request), Some(Head { stream: 5, body: 2 }));
    }

    #[test]
    fn other_requests_are_refused() {
        assert_eq!(parse(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"), None);
        assert_eq!(parse(b"GET / HTTP/1.1\r\nx-bench-stream: x\r\n\r\n"), None);
        assert_eq!(parse(b"POST / HTTP/1.1\r\nx-bench-stream: 1\r\ntransfer-encoding: chunked\r\n\r\n"), None);
    }
}
