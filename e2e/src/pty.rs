//! A person at a terminal: types, sees the screen, changes the window's size.

use std::{
    fs::File,
    io::{Read, Write},
    process::{Child, Command},
    sync::{Arc, Mutex},
};

use rustix::{
    pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use crate::{output, wait_for};

/// A command on a terminal of its own.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    keyboard: File,
    screen: Arc<Mutex<String>>,
}

impl Terminal {
    /// Starts a command on a new terminal of 24 rows and 80 columns.
    pub(crate) fn start(mut command: Command) -> Terminal {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).expect("open a terminal");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("unlock the terminal");
        let slave = File::from(ioctl_tiocgptpeer(&master, flags).expect("open the terminal's other side"));
        let keyboard = File::from(master);
        resize(&keyboard, 24, 80);
        let dup = || slave.try_clone().expect("dup");
        let child =
            command.stdin(dup()).stdout(dup()).stderr(dup()).spawn().expect("start a command on a terminal");
        let screen = Arc::new(Mutex::new(String::new()));
        let (mut eyes, seen) = (keyboard.try_clone().expect("dup"), Arc::clone(&screen));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // The read ends with EIO when the last process lets go of the terminal.
            while let Ok(count @ 1..) = eyes.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
                seen.lock().expect("the screen").push_str(&text);
            }
        });
        Terminal { child, keyboard, screen }
    }

    /// Types; `\n` is the enter key, `\x04` is Ctrl-D.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn write(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("type");
    }

    /// Everything that was ever on the screen.
    #[must_use]
    pub fn screen(&self) -> String {
        self.screen.lock().expect("the screen").clone()
    }

    /// Waits until the screen shows this.
    ///
    /// # Panics
    /// When it does not.
    pub fn expect(&self, text: &str) {
        let deadline = std::time::Instant::now() + crate::patience(std::time::Duration::from_secs(15));
        while !self.screen().contains(text) {
            assert!(std::time::Instant::now() < deadline, "no {text:?} on the screen:\n{}", self.screen());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    /// Changes the window's size.
    pub fn resize(&self, rows: u16, cols: u16) {
        resize(&self.keyboard, rows, cols);
    }

    /// The process on the terminal.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the command's end; its exit status.
    ///
    /// # Panics
    /// When it does not end.
    pub fn wait(&mut self) -> i32 {
        let screen = Arc::clone(&self.screen);
        let status =
            wait_for("the end of the command on the terminal", 30, || self.child.try_wait().expect("wait"));
        drop(screen);
        output::code(status)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn resize(terminal: &File, rows: u16, cols: u16) {
    let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).expect("set the window's size");
}
