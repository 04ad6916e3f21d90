//! The encoders, three libraries behind one face.
//!
//! Owns their settings. Streams get small windows and quick searches: an answer is worth milliseconds and is read by one client, and
//! an encoder is held for as long as that takes. What is compressed once and sent often gets all there is.

use std::fmt;
use std::io::{self, Write as _};

use super::super::coding::Coding;
use zstd::stream::raw::CParameter;

/// How hard an encoder tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// For one client that waits: zstd 3, brotli 4, gzip 6.
    Stream,
    /// For files that are compressed once: zstd 19, brotli 11, gzip 9.
    Best,
}

/// Windows as powers of two. RFC 9659 has browsers refuse a zstd window over 8 MiB; brotli's is 16 MiB less 16 bytes at most.
const STREAM_ZSTD_WINDOW: u32 = 18;
const BEST_ZSTD_WINDOW: u32 = 23;
const STREAM_BROTLI_WINDOW: u32 = 17;
const BEST_BROTLI_WINDOW: u32 = 22;
/// The tables in which zstd looks for what was there before, as powers of two, a quarter megabyte each.
const STREAM_ZSTD_TABLE: u32 = 16;
const BROTLI_BUFFER_BYTES: usize = 4096;

/// All of `bytes` in a coding.
pub fn whole(coding: Coding, effort: Effort, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = Encoder::new(coding, effort, Some(bytes.len() as u64))?;
    encoder.write(bytes)?;
    encoder.finish()
}

/// Bytes in, bytes out, in no other place than memory.
pub(super) enum Encoder {
    Zstd(Box<zstd::stream::write::Encoder<'static, Vec<u8>>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Gzip(Box<flate2::write::GzEncoder<Vec<u8>>>),
}

impl Encoder {
    /// `size` is how much there will be, if that is known: then it will be that or an error.
    pub(super) fn new(coding: Coding, effort: Effort, size: Option<u64>) -> io::Result<Self> {
        let best = effort == Effort::Best;
        Ok(match coding {
            Coding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), if best { 19 } else { 3 })?;
                if best {
                    encoder.set_parameter(CParameter::WindowLog(BEST_ZSTD_WINDOW))?;
                } else {
                    encoder.set_parameter(CParameter::WindowLog(STREAM_ZSTD_WINDOW))?;
                    encoder.set_parameter(CParameter::HashLog(STREAM_ZSTD_TABLE))?;
                    encoder.set_parameter(CParameter::ChainLog(STREAM_ZSTD_TABLE))?;
                }
                encoder.set_pledged_src_size(size)?; // a small one takes less memory
                Self::Zstd(Box::new(encoder))
            }
            Coding::Brotli => {
                let (quality, window) = if best { (11, BEST_BROTLI_WINDOW) } else { (4, STREAM_BROTLI_WINDOW) };
                let encoder = brotli::CompressorWriter::new(Vec::new(), BROTLI_BUFFER_BYTES, quality, window);
                Self::Brotli(Box::new(encoder))
            }
            Coding::Gzip => {
                let level = flate2::Compression::new(if best { 9 } else { 6 });
                Self::Gzip(Box::new(flate2::write::GzEncoder::new(Vec::new(), level)))
            }
        })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Zstd(encoder) => encoder.write_all(bytes),
            Self::Brotli(encoder) => encoder.write_all(bytes),
            Self::Gzip(encoder) => encoder.write_all(bytes),
        }
    }

    /// Has everything that was written come out, at the price of some bytes.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Zstd(encoder) => encoder.flush(),
            Self::Brotli(encoder) => encoder.flush(),
            Self::Gzip(encoder) => encoder.flush(),
        }
    }

    /// What has come out since the last time.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(match self {
            Self::Zstd(encoder) => encoder.get_mut(),
            Self::Brotli(encoder) => encoder.get_mut(),
            Self::Gzip(encoder) => encoder.get_mut(),
        })
    }

    /// Ends the coding, and gives what was not taken.
    pub(super) fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Zstd(encoder) => encoder.finish(),
            Self::Brotli(encoder) => Ok(encoder.into_inner()),
            Self::Gzip(encoder) => encoder.finish(),
        }
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Zstd(_) => "Encoder::Zstd",
            Self::Brotli(_) => "Encoder::Brotli",
            Self::Gzip(_) => "Encoder::Gzip",
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Read;

    use super::*;

    /// What a client would read.
    pub(in super::super) fn decoded(coding: Coding, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        match coding {
            Coding::Zstd => zstd::stream::read::Decoder::new(bytes)?.read_to_end(&mut plain)?,
            Coding::Brotli => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut plain)?,
            Coding::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain)?,
        };
        Ok(plain)
    }

    /// What can be read of a coding that has not ended.
    pub(in super::super) fn decoded_so_far(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        let mut reader: Box<dyn Read + '_> = match coding {
            Coding::Zstd => Box::new(zstd::stream::read::Decoder::new(bytes).unwrap()),
            Coding::Brotli => Box::new(brotli::Decompressor::new(bytes, 4096)),
            Coding::Gzip => Box::new(flate2::read::GzDecoder::new(bytes)),
        };
        let mut piece = [0; 512];
        while let Ok(read @ 1..) = reader.read(&mut piece) {
            plain.extend_from_slice(&piece[..read]);
        }
        plain
    }

    /// Text that is worth compressing and not trivially so.
    pub(in super::super) fn prose(bytes: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let mut text = Vec::with_capacity(bytes + 16);
        while text.len() < bytes {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            text.extend_from_slice(format!("{:x} the ", (state >> 33) % 5000).as_bytes());
        }
        text.truncate(bytes);
        text
    }

    #[test]
    fn every_coding_gives_back_what_was_put_in() {
        for coding in Coding::ALL {
            for effort in [Effort::Stream, Effort::Best] {
                for size in [0, 1, 1000, 70_000, 300_000] {
                    let plain = prose(size);
                    let packed = whole(coding, effort, &plain).unwrap();
                    assert_eq!(decoded(coding, &packed).unwrap(), plain, "{coding:?} {effort:?} {size}");
                    assert!(size < 1000 || packed.len() < size / 2, "{coding:?} {effort:?} {size}: {}", packed.len());
                }
            }
        }
    }

    #[test]
    fn what_is_cut_off_can_be_told_from_the_whole() {
        for coding in Coding::ALL {
            let packed = whole(coding, Effort::Stream, &prose(50_000)).unwrap();
            assert!(decoded(coding, &packed[..packed.len() - 1]).is_err(), "{coding:?}");
        }
    }

    /// RFC 8878 section 3.1.1.1: the descriptor, then the window's exponent unless the frame is one segment.
    #[test]
    fn rfc9659_no_zstd_window_is_over_8_mib() {
        for (effort, most) in [(Effort::Stream, 1 << STREAM_ZSTD_WINDOW), (Effort::Best, 8 << 20)] {
            let mut encoder = Encoder::new(Coding::Zstd, effort, None).unwrap();
            for _ in 0..40 {
                encoder.write(&prose(256 * 1024)).unwrap();
            }
            let packed = encoder.finish().unwrap();
            assert_eq!(packed[4] & 0b0010_0000, 0, "not one segment");
            let (exponent, mantissa) = (u32::from(packed[5] >> 3), u64::from(packed[5] & 7));
            let base = 1_u64 << (10 + exponent);
            assert!(base + base / 8 * mantissa <= most, "{effort:?}: {base} {mantissa}");
        }
    }
}
