//! A terminal of a test: a pseudo-terminal, and a program on it.

use std::{
    fs::File,
    io::{Read, Write},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, sync_channel},
    thread,
    time::{Duration, Instant},
};

use nix::pty::{Winsize, openpty};

/// Longer than anything takes here.
const SECONDS_MAX: u64 = 60;
/// How often something is done again that may not have been heard.
const EVERY: Duration = Duration::from_millis(100);

pub(super) struct Terminal {
    program: Child,
    keys: File,
    output: Receiver<Vec<u8>>,
    /// What was shown since it was last waited for.
    shown: String,
}

impl Terminal {
    /// Starts a program on a terminal so wide.
    pub(super) fn start(mut command: Command, columns: u16) -> Self {
        let size = Winsize {
            ws_row: 40,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(&size, None).unwrap();
        let terminal = || Stdio::from(pty.slave.try_clone().unwrap());
        let program = command
            .env("TERM", "xterm-256color")
            .stdin(terminal())
            .stdout(terminal())
            .stderr(terminal())
            .spawn()
            .unwrap();
        // They hold the other side open.
        drop((command, pty.slave));
        let keys = File::from(pty.master);
        let mut screen = keys.try_clone().unwrap();
        let (sender, output) = sync_channel(1_024);
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            // An error is the end: nobody is on the other side.
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                if sender.send(bytes[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self {
            program,
            keys,
            output,
            shown: String::new(),
        }
    }

    pub(super) fn type_in(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// What is shown up to a text, and the text.
    pub(super) fn until(&mut self, text: &str) -> String {
        self.until_after(text, || ())
    }

    /// The same, and does something again and again meanwhile: the program may not listen yet.
    pub(super) fn until_after(&mut self, text: &str, again: impl Fn()) -> String {
        let deadline = Instant::now() + Duration::from_secs(SECONDS_MAX);
        loop {
            if let Some(at) = self.shown.find(text) {
                let rest = self.shown.split_off(at + text.len());
                return std::mem::replace(&mut self.shown, rest);
            }
            assert!(
                Instant::now() < deadline,
                "no `{text}` in: {:?}",
                self.shown
            );
            match self.output.recv_timeout(EVERY) {
                Ok(bytes) => self.shown += &String::from_utf8_lossy(&bytes),
                Err(RecvTimeoutError::Timeout) => again(),
                Err(RecvTimeoutError::Disconnected) => panic!("ended after: {:?}", self.shown),
            }
        }
    }

    /// All that is shown up to the end.
    pub(super) fn end(mut self) -> (String, ExitStatus) {
        while let Ok(bytes) = self.output.recv_timeout(Duration::from_secs(SECONDS_MAX)) {
            self.shown += &String::from_utf8_lossy(&bytes);
        }
        let status = self.program.wait().unwrap();
        (std::mem::take(&mut self.shown), status)
    }

    pub(super) fn process(&self) -> u32 {
        self.program.id()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It has ended already where a test went well.
        self.program.kill().ok();
        self.program.wait().ok();
    }
}
