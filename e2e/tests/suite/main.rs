//! The end-to-end suite: one module per subject, every test with a daemon of its own and a leak check at its end.

mod harness;
