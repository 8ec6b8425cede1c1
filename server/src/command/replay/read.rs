//! The lines of a log: a file, standard input, either of them packed with gzip.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, stdin};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

/// First bytes of what gzip writes (RFC 1952).
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// Longest line that is read; the rest of a longer one is dropped, so that it is a bad line.
const MAX_LINE: u64 = 1 << 20;

/// Numbers from 1 and texts; `-` is standard input. An error ends it.
pub(super) fn lines(log: &Path) -> Result<impl Iterator<Item = Result<(u64, String), String>>, String> {
    let failed = {
        let name = log.display().to_string();
        move |error: std::io::Error| format!("cannot read {name}: {error}")
    };
    let raw: Box<dyn Read> = if log.as_os_str() == "-" {
        Box::new(stdin().lock())
    } else {
        Box::new(File::open(log).map_err(&failed)?)
    };
    let mut buffered = BufReader::with_capacity(1 << 16, raw);
    let packed = buffered.fill_buf().map_err(&failed)?.starts_with(&GZIP);
    let mut reader: Box<dyn BufRead> =
        if packed { Box::new(BufReader::new(MultiGzDecoder::new(buffered))) } else { Box::new(buffered) };
    let (mut number, mut ended) = (0, false);
    Ok(std::iter::from_fn(move || {
        if ended {
            return None;
        }
        number += 1;
        match line(&mut *reader) {
            Ok(Some(line)) => Some(Ok((number, line))),
            Ok(None) => None,
            Err(error) => {
                ended = true;
                Some(Err(failed(error)))
            }
        }
    }))
}

/// The next line without its end; `None` after the last one.
fn line(reader: &mut dyn BufRead) -> std::io::Result<Option<String>> {
    let mut bytes = Vec::new();
    if reader.take(MAX_LINE).read_until(b'\n', &mut bytes)? == 0 {
        return Ok(None);
    }
    if bytes.last() != Some(&b'\n') && bytes.len() as u64 == MAX_LINE {
        skip_line(reader)?;
    }
    Ok(Some(String::from_utf8_lossy(&bytes).trim_end().to_owned()))
}

fn skip_line(reader: &mut dyn BufRead) -> std::io::Result<()> {
    loop {
        let buffer = reader.fill_buf()?;
        let (used, done) = match buffer.iter().position(|&byte| byte == b'\n') {
            Some(place) => (place + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        reader.consume(used);
        if done {
            return Ok(());
        }
    }
}
