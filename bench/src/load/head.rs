//! The head of an answer, as far as a client needs it.

use memchr::memmem;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::StreamFault;

/// The header in which Streamkeeper names a stream's session.
const SESSION: &str = "streamkeeper-session";

/// The head of a chunked stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// The session's name, where there is one.
    pub(super) session: Option<String>,
    /// Whether the connection ends with this answer.
    pub(super) closes: bool,
}

/// Reads the head; returns it, where the body starts in `buffer`, and how far that is filled.
pub(super) async fn read(socket: &mut TcpStream, buffer: &mut [u8]) -> Result<(Head, usize, usize), StreamFault> {
    let mut filled = 0;
    loop {
        let read = socket.read(buffer.get_mut(filled..).unwrap_or_default()).await?;
        if read == 0 {
            return Err(if filled == 0 { StreamFault::NoAnswer } else { StreamFault::Closed });
        }
        filled += read;
        let seen = buffer.get(..filled).unwrap_or_default();
        if let Some(end) = memmem::find(seen, b"\r\n\r\n") {
            let head = parse(seen.get(..end).unwrap_or_default())?;
            return Ok((head, end + 4, filled));
        }
    }
}

fn parse(head: &[u8]) -> Result<Head, StreamFault> {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split("\r\n");
    let (mut session, mut closes, mut chunked) = (None, false, false);
    let ok = lines.next().is_some_and(|status| status.starts_with("HTTP/1.1 200 "));
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "transfer-encoding" => chunked = value.eq_ignore_ascii_case("chunked"),
            "connection" => closes = value.eq_ignore_ascii_case("close"),
            SESSION => session = Some(value.to_owned()),
            _ => {}
        }
    }
    if ok && chunked { Ok(Head { session, closes }) } else { Err(StreamFault::Head(text.into_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_chunked_200_starts_a_stream() {
        assert!(parse(b"HTTP/1.1 200 OK\r\nServer: x\r\nTransfer-Encoding: chunked").is_ok());
        assert!(parse(b"HTTP/1.1 503 Busy\r\ntransfer-encoding: chunked").is_err());
        assert!(parse(b"HTTP/1.1 200 OK\r\ncontent-length: 2").is_err());
    }

    #[test]
    fn a_head_names_the_session_and_says_whether_the_connection_ends() {
        let head =
            parse(b"HTTP/1.1 200 OK\r\nStreamkeeper-Session: abc\r\nTransfer-Encoding: chunked\r\nconnection: Close");
        assert_eq!(head.expect("a stream"), Head { session: Some("abc".into()), closes: true });
    }
}
