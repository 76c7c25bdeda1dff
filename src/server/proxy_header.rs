//! The PROXY header: what a load balancer that passes bytes says first on a connection, so that the client's address is
//! not lost. Versions 1 (a line of text) and 2 (binary).
//!
//! Strict: what is not exactly such a header is an error, and nothing beyond it is read from the socket. Not here: whose
//! header is believed, and how long it may take (`server`). Source: "The PROXY protocol", HAProxy, sections 2.1 and 2.2.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// What version 2 begins with. A line of version 1 is never shorter.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The longest line of version 1, with its end.
const LONGEST_LINE: usize = 107;
/// The most that may follow the fixed part of version 2: addresses, and fields that are of no use here.
const LONGEST_REST: usize = 4096;

/// Reads a header off the stream. Whom the connection comes from; `None` where the header does not say, as in a health
/// check of the load balancer's own.
///
/// # Errors
/// `InvalidData` where there is no such header, or what the socket says.
pub(super) async fn read(stream: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    let mut start = [0; SIGNATURE.len()];
    stream.read_exact(&mut start).await?;
    if start == SIGNATURE {
        let mut fixed = [0; 4];
        stream.read_exact(&mut fixed).await?;
        let [_, _, high, low] = fixed;
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > LONGEST_REST {
            return Err(malformed());
        }
        let mut rest = vec![0; length];
        stream.read_exact(&mut rest).await?;
        return version_2(fixed, &rest).ok_or_else(malformed);
    }
    if !start.starts_with(b"PROXY ") {
        return Err(malformed());
    }
    let line = line(stream, start.to_vec()).await?;
    version_1(&line).ok_or_else(malformed)
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no PROXY header")
}

/// Reads up to the end of the line and not a byte further: what follows is not ours.
async fn line(stream: &mut TcpStream, mut line: Vec<u8>) -> io::Result<Vec<u8>> {
    let mut piece = [0; LONGEST_LINE];
    loop {
        let room = piece.get_mut(..LONGEST_LINE.saturating_sub(line.len())).filter(|room| !room.is_empty());
        let room = room.ok_or_else(malformed)?;
        let seen = stream.peek(room).await?;
        let end = room.iter().take(seen).position(|byte| *byte == b'\n');
        let taken = room.get_mut(..end.map_or(seen, |end| end + 1)).unwrap_or_default();
        if taken.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        stream.read_exact(taken).await?;
        line.extend_from_slice(taken);
        if end.is_some() {
            return Ok(line);
        }
    }
}

/// A whole line. The outer `None` is no header.
fn version_1(line: &[u8]) -> Option<Option<SocketAddr>> {
    let line = std::str::from_utf8(line).ok()?.strip_prefix("PROXY ")?.strip_suffix("\r\n")?;
    if line == "UNKNOWN" || line.starts_with("UNKNOWN ") {
        return Some(None);
    }
    let fields: Vec<_> = line.split(' ').collect();
    let [family, from, to, from_port, to_port] = fields[..] else { return None };
    let pair = |from: Option<IpAddr>, to: Option<IpAddr>| to.and(from);
    let address = match family {
        "TCP4" => pair(ip::<Ipv4Addr>(from), ip::<Ipv4Addr>(to)),
        "TCP6" => pair(ip::<Ipv6Addr>(from), ip::<Ipv6Addr>(to)),
        _ => None,
    }?;
    port(to_port)?;
    Some(Some(SocketAddr::new(address, port(from_port)?)))
}

fn ip<T: FromStr + Into<IpAddr>>(text: &str) -> Option<IpAddr> {
    text.parse::<T>().ok().map(Into::into)
}

fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

/// The four bytes after the signature, and what they announce. The outer `None` is no header.
fn version_2([command, family, ..]: [u8; 4], rest: &[u8]) -> Option<Option<SocketAddr>> {
    const LOCAL: u8 = 0x20;
    const PROXY: u8 = 0x21;
    const UNSPECIFIED: u8 = 0x00;
    const TCP4: u8 = 0x11;
    const TCP6: u8 = 0x21;
    match (command, family) {
        (LOCAL, _) | (PROXY, UNSPECIFIED) => Some(None),
        (PROXY, TCP4) => {
            let (from, rest) = rest.split_first_chunk::<4>()?;
            let ([_, _, _, _, high, low], _) = rest.split_first_chunk::<6>()?;
            rest.get(..8)?;
            Some(Some(SocketAddr::new(Ipv4Addr::from(*from).into(), u16::from_be_bytes([*high, *low]))))
        }
        (PROXY, TCP6) => {
            let (from, rest) = rest.split_first_chunk::<16>()?;
            let (_, ports) = rest.split_first_chunk::<16>()?;
            let ([high, low, _, _], _) = ports.split_first_chunk::<4>()?;
            Some(Some(SocketAddr::new(Ipv6Addr::from(*from).into(), u16::from_be_bytes([*high, *low]))))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn said(line: &str) -> Option<Option<String>> {
        version_1(line.as_bytes()).map(|from| from.map(|from| from.to_string()))
    }

    #[test]
    fn a_line_names_the_client() {
        assert_eq!(said("PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n"), Some(Some("192.0.2.7:56324".to_owned())));
        assert_eq!(said("PROXY TCP6 2001:db8::7 ::1 1 65535\r\n"), Some(Some("[2001:db8::7]:1".to_owned())));
        assert_eq!(said("PROXY UNKNOWN\r\n"), Some(None));
        assert_eq!(said("PROXY UNKNOWN ffff:f::1 ::1 65535 65535\r\n"), Some(None));
    }

    #[test]
    fn what_is_not_exactly_such_a_line_is_none() {
        for line in [
            "PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 56324\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 56324 443 \r\n",
            "PROXY TCP4  192.0.2.7 10.0.0.1 56324 443\r\n",
            "PROXY TCP4 192.0.2.07 10.0.0.1 56324 443\r\n",
            "PROXY TCP4 ::1 10.0.0.1 56324 443\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 +1 443\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 01 443\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 65536 443\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 1 \r\n",
            "PROXY TCP6 192.0.2.7 10.0.0.1 1 2\r\n",
            "PROXY UDP4 192.0.2.7 10.0.0.1 1 2\r\n",
            "PROXY UNKNOWNX\r\n",
            "proxy TCP4 192.0.2.7 10.0.0.1 1 2\r\n",
        ] {
            assert_eq!(said(line), None, "{line}");
        }
    }

    #[test]
    fn the_binary_form_names_the_client_and_may_say_more() {
        let four = [192, 0, 2, 7, 10, 0, 0, 1, 0xdc, 4, 1, 187];
        let from = version_2([0x21, 0x11, 0, 12], &four).unwrap().unwrap();
        assert_eq!(from.to_string(), "192.0.2.7:56324");
        let more: Vec<u8> = four.iter().copied().chain([3, 0, 4, 1, 2, 3, 4]).collect();
        assert_eq!(version_2([0x21, 0x11, 0, 19], &more), Some(Some(from)));
        let mut six = [0; 36];
        six[15] = 7;
        six[33] = 80;
        assert_eq!(version_2([0x21, 0x21, 0, 36], &six).unwrap().unwrap().to_string(), "[::7]:80");
        assert_eq!(version_2([0x20, 0, 0, 0], &[]), Some(None), "a health check of the balancer's own");
        assert_eq!(version_2([0x21, 0, 0, 0], &[]), Some(None));
        for (head, rest) in [
            ([0x21, 0x11, 0, 11], &four[..11]),
            ([0x21, 0x21, 0, 35], &six[..35]),
            ([0x21, 0x12, 0, 12], &four[..]),
            ([0x21, 0x31, 0, 12], &four[..]),
            ([0x11, 0x11, 0, 12], &four[..]),
            ([0x22, 0x11, 0, 12], &four[..]),
        ] {
            assert_eq!(version_2(head, rest), None, "{head:x?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(line: Vec<u8>, head: [u8; 4], rest: Vec<u8>) {
            let _ = version_1(&line);
            let _ = version_2(head, &rest);
        }

        #[test]
        fn what_a_balancer_writes_is_read(from: SocketAddr, to: SocketAddr) {
            let family = match (from, to) {
                (SocketAddr::V4(_), SocketAddr::V4(_)) => "TCP4",
                (SocketAddr::V6(_), SocketAddr::V6(_)) => "TCP6",
                _ => return Ok(()),
            };
            let line = format!("PROXY {family} {} {} {} {}\r\n", from.ip(), to.ip(), from.port(), to.port());
            prop_assert!(line.len() <= LONGEST_LINE);
            let read = version_1(line.as_bytes()).flatten().map(|read| (read.ip(), read.port()));
            prop_assert_eq!(read, Some((from.ip(), from.port())));
        }
    }

    /// A stream on which these pieces arrive one after the other, and then nothing.
    async fn arriving(pieces: &'static [&'static [u8]]) -> TcpStream {
        use tokio::io::AsyncWriteExt as _;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        client.set_nodelay(true).unwrap();
        tokio::spawn(async move {
            for piece in pieces {
                client.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        listener.accept().await.unwrap().0
    }

    #[tokio::test]
    async fn nothing_beyond_the_header_is_taken_off_the_stream() {
        const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x07\x0a\x00\x00\x01\xdc\x04\x01\xbb";
        let cases: [&[&[u8]]; 3] = [
            &[b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\nGET / HTTP/1.1\r\n\r\n"],
            &[b"PROXY TC", b"P4 192.0.2.7 10.0.", b"0.1 56324 443\r", b"\nGET / HTTP/1.1\r\n\r\n"],
            &[V2, b"GET / HTTP/1.1\r\n\r\n"],
        ];
        for pieces in cases {
            let mut stream = arriving(pieces).await;
            let from = read(&mut stream).await.unwrap().unwrap();
            assert_eq!(from.to_string(), "192.0.2.7:56324");
            let mut rest = String::new();
            stream.read_to_string(&mut rest).await.unwrap();
            assert_eq!(rest, "GET / HTTP/1.1\r\n\r\n");
        }
    }

    #[tokio::test]
    async fn a_header_that_is_too_long_or_cut_off_is_refused() {
        const LONG: &[u8] = &[b'x'; 200];
        let cases: [(&[&[u8]], io::ErrorKind); 4] = [
            (&[b"PROXY UNKNOWN ", LONG], io::ErrorKind::InvalidData),
            (&[b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff"], io::ErrorKind::InvalidData),
            (&[b"GET / HTTP/1.1\r\n\r\n"], io::ErrorKind::InvalidData),
            (&[b"PROXY UNKNOWN "], io::ErrorKind::UnexpectedEof),
        ];
        for (pieces, kind) in cases {
            let mut stream = arriving(pieces).await;
            assert_eq!(read(&mut stream).await.unwrap_err().kind(), kind, "{pieces:?}");
        }
    }
}
