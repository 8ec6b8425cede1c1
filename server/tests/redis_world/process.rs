//! One child process.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A child that dies with its handle, be it stopped or not.
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts `command`; what it prints goes to `output`.
    pub fn spawn(command: &mut Command, output: &Path) -> Process {
        let file = File::options().create(true).append(true).open(output).unwrap();
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Process { child }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Sends a signal by its short name, such as `STOP`.
    pub fn signal(&self, name: &str) {
        // the shell's own `kill`: small images have no other
        let line = format!("kill -{name} {}", self.pid());
        let status = Command::new("sh").args(["-c", &line]).status().unwrap();
        assert!(status.success(), "{line}: {status}");
    }

    /// Whether the kernel has stopped every thread of it.
    pub fn is_stopped(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        // the state follows the name, which is in parentheses and may hold any sign
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // both fail only if it has ended and been waited for
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
