//! A wall clock that is wrong: a small library, compiled on the spot, which the server loads before libc.

use std::fs::{File, write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCE: &str = include_str!("clock_shim.c");

/// The clock of one server.
pub struct SkewedClock {
    library: PathBuf,
    offset: PathBuf,
}

impl SkewedClock {
    /// Compiles the library into `directory`. Panics without a C compiler.
    pub fn new(directory: &Path, offset_micros: i64) -> SkewedClock {
        let source = directory.join("clock_shim.c");
        write(&source, SOURCE).unwrap();
        let clock =
            SkewedClock { library: directory.join("clock_shim.so"), offset: directory.join("clock_offset") };
        let compiler = Command::new("cc")
            .args(["-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o"])
            .args([&clock.library, &source])
            .output()
            .unwrap_or_else(|error| panic!("cc: {error}"));
        assert!(compiler.status.success(), "{}", String::from_utf8_lossy(&compiler.stderr));
        write(&clock.offset, offset_micros.to_ne_bytes()).unwrap();
        clock
    }

    pub fn apply(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("CLOCK_OFFSET_FILE", &self.offset);
    }

    pub fn set(&self, offset_micros: i64) {
        // in place: the server has mapped this file, and one that replaces it would not be seen
        let file = File::options().write(true).open(&self.offset).unwrap();
        file.write_all_at(&offset_micros.to_ne_bytes(), 0).unwrap();
    }
}
