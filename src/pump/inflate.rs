//! Decompression of an upstream stream that compresses although `identity` was asked for.
//!
//! Each chunk goes in, whatever it yields comes out at once; ratio and size are capped, since a few bytes can claim
//! to be gigabytes. Knows gzip, deflate and br (RFC 9110 section 8.4.1).

use std::io::Write;

use brotli_decompressor::DecompressorWriter;
use bytes::Bytes;
use flate2::write::{GzDecoder, ZlibDecoder};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use streamkeeper_session::{Code, Fault};

/// Output per input, at most, once a mebibyte was put out. Text of language models stays below 20.
const RATIO: u64 = 200;
const FREE: u64 = 1024 * 1024;
/// Compressed bytes that go in at once. Few enough that even the best ratio of deflate (1032) stays below `FREE`: what came
/// before a bomb is still given.
const PIECE: usize = 512;
/// Output of one input chunk, at most.
const BURST: usize = 8 * 1024 * 1024;

/// Gives `data` to `sink`: as it is without `inflate`, else what it expands to, in pieces.
///
/// # Errors
/// As [`Inflate::push`]; what came before was given.
pub(super) fn inflated(inflate: Option<&mut Inflate>, data: &[u8], sink: &mut dyn FnMut(&[u8])) -> Result<(), Fault> {
    let Some(inflate) = inflate else {
        sink(data);
        return Ok(());
    };
    for piece in data.chunks(PIECE) {
        let plain = inflate.push(piece)?;
        if !plain.is_empty() {
            sink(&plain);
        }
    }
    Ok(())
}

enum Codec {
    Gzip(GzDecoder<Capped>),
    Deflate(ZlibDecoder<Capped>),
    Brotli(Box<DecompressorWriter<Capped>>),
}

/// A buffer that refuses to grow without bound.
#[derive(Default)]
struct Capped(Vec<u8>);

impl Write for Capped {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + data.len() > BURST {
            return Err(std::io::Error::other("one chunk decompresses to too much"));
        }
        self.0.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A streaming decompressor.
pub(super) struct Inflate {
    codec: Codec,
    bytes_in: u64,
    bytes_out: u64,
}

impl Inflate {
    /// The decompressor that `headers` call for; `None` if the body is plain.
    ///
    /// # Errors
    /// `bad_content_type` for a coding that is not known here.
    pub(super) fn for_headers(headers: &HeaderMap) -> Result<Option<Self>, Fault> {
        let coding =
            headers.get(CONTENT_ENCODING).map(|value| value.to_str().unwrap_or("?").trim().to_ascii_lowercase());
        let codec = match coding.as_deref() {
            None | Some("" | "identity") => return Ok(None),
            Some("gzip" | "x-gzip") => Codec::Gzip(GzDecoder::new(Capped::default())),
            Some("deflate") => Codec::Deflate(ZlibDecoder::new(Capped::default())),
            Some("br") => Codec::Brotli(Box::new(DecompressorWriter::new(Capped::default(), 4096))),
            Some(_) => {
                let message = "The upstream compressed its answer in a way this proxy does not know, although none was asked for.";
                return Err(Fault::new(Code::BadContentType).message(message));
            }
        };
        Ok(Some(Self { codec, bytes_in: 0, bytes_out: 0 }))
    }

    /// Everything that `data` adds.
    ///
    /// # Errors
    /// `upstream_reset` for broken data, `event_too_large` when a cap is hit.
    fn push(&mut self, data: &[u8]) -> Result<Bytes, Fault> {
        let fed = match &mut self.codec {
            Codec::Gzip(codec) => codec.write_all(data).and_then(|()| codec.flush()),
            Codec::Deflate(codec) => codec.write_all(data).and_then(|()| codec.flush()),
            Codec::Brotli(codec) => codec.write_all(data).and_then(|()| codec.flush()),
        };
        let out = match &mut self.codec {
            Codec::Gzip(codec) => &mut codec.get_mut().0,
            Codec::Deflate(codec) => &mut codec.get_mut().0,
            Codec::Brotli(codec) => &mut codec.get_mut().0,
        };
        let full = out.len() + 64 * 1024 > BURST;
        let plain = Bytes::from(std::mem::take(out));
        self.bytes_in += data.len() as u64;
        self.bytes_out += plain.len() as u64;
        if full || (self.bytes_out > FREE && self.bytes_out > RATIO * self.bytes_in) {
            return Err(
                Fault::new(Code::EventTooLarge).message("The upstream's compressed answer expands to too much.")
            );
        }
        match fed {
            Ok(()) => Ok(plain),
            Err(error) => Err(Fault::new(Code::UpstreamReset).cause(format!("compressed body: {error}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn inflate(coding: &'static str) -> Inflate {
        let headers = [(CONTENT_ENCODING, coding.parse().unwrap())].into_iter().collect();
        Inflate::for_headers(&headers).unwrap().unwrap()
    }

    #[test]
    fn each_chunk_yields_what_it_completes() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        let mut inflate = inflate("gzip");
        for event in ["data: one\n\n", "data: two\n\n"] {
            encoder.write_all(event.as_bytes()).unwrap();
            encoder.flush().unwrap();
            let chunk = std::mem::take(encoder.get_mut());
            assert_eq!(inflate.push(&chunk).unwrap(), event);
        }
    }

    #[test]
    fn a_bomb_is_refused() {
        let bomb = gzip(&vec![0; 16 * 1024 * 1024]);
        assert_eq!(inflate("gzip").push(&bomb).unwrap_err().code, Code::EventTooLarge);
    }

    #[test]
    fn a_slow_bomb_is_refused_by_its_ratio() {
        let bomb = gzip(&vec![0; 64 * 1024 * 1024]);
        let mut inflate = inflate("gzip");
        let outcome = bomb.chunks(1024).map(|chunk| inflate.push(chunk)).find_map(Result::err);
        assert_eq!(outcome.map(|fault| fault.code), Some(Code::EventTooLarge));
    }

    #[test]
    fn broken_data_is_a_broken_connection() {
        assert_eq!(inflate("gzip").push(b"no gzip at all").unwrap_err().code, Code::UpstreamReset);
    }

    #[test]
    fn an_unknown_coding_is_refused() {
        let headers = [(CONTENT_ENCODING, "zstd".parse().unwrap())].into_iter().collect();
        assert!(Inflate::for_headers(&headers).is_err());
    }
}
