//! Standard input, read by a thread of its own: a read that waits for the user cannot be called off, and must not keep the
//! client from ending when the container does.

use std::{io, thread};

use tokio::sync::{mpsc, oneshot};

use super::Input;
use crate::cli::terminal::DetachKeys;

/// Bytes read at once.
const PIECE: usize = 32 << 10;

/// Reads standard input into `data` until it ends. The receiver is told when the user types the keys to leave, which have
/// that meaning on a terminal only.
pub(super) fn forward(data: mpsc::Sender<Input>, keys: bool) -> oneshot::Receiver<()> {
    let (leave, left) = oneshot::channel();
    thread::spawn(move || {
        if read(&data, keys) {
            // The other end is gone only when the session has ended anyway.
            let _ = leave.send(());
        }
    });
    left
}

/// Reads until the end; true when the user wants to leave.
fn read(data: &mpsc::Sender<Input>, keys: bool) -> bool {
    let mut detach = keys.then(DetachKeys::default);
    let mut buffer = vec![0; PIECE];
    loop {
        let typed = match rustix::io::retry_on_intr(|| rustix::io::read(io::stdin(), &mut buffer)) {
            // A terminal that hangs up answers EIO: that is its end.
            Ok(0) | Err(_) => break,
            Ok(count) => &buffer[..count],
        };
        let (bytes, leave) = match &mut detach {
            Some(keys) => keys.filter(typed),
            None => (typed.to_vec(), false),
        };
        if !bytes.is_empty() && data.blocking_send(Input::Data(bytes.into())).is_err() {
            return false;
        }
        if leave {
            return true;
        }
    }
    let _ = data.blocking_send(Input::End);
    false
}
