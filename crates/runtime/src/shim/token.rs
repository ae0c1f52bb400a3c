//! What the numbers mean that the poll tells.

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// The socket that clients connect to.
    Listener,
    /// The ends of children.
    Children,
    /// The container's output number n: see [`super::streams`].
    Output,
    /// The container's input.
    Input,
    /// Word of memory that has run out.
    Memory,
    /// Client n.
    Client,
    /// The process that client n has asked for, on its way to its program.
    Exec,
    /// Forwarded port n.
    Port,
    /// The outer side of forwarded connection n.
    Outer,
    /// Its inner side, towards the container.
    Inner,
    /// The socket towards the container of UDP flow n.
    Flow,
}

const ALL: [Of; 11] = [
    Of::Listener,
    Of::Children,
    Of::Output,
    Of::Input,
    Of::Memory,
    Of::Client,
    Of::Exec,
    Of::Port,
    Of::Outer,
    Of::Inner,
    Of::Flow,
];

/// The number for it.
pub(super) const fn token(of: Of, index: usize) -> u64 {
    (of as u64) << 32 | index as u64 & 0xffff_ffff
}

/// What a number was made of; `None` for a number that [`token`] does not make.
pub(super) fn parts(token: u64) -> Option<(Of, usize)> {
    let of = ALL.get(usize::try_from(token >> 32).ok()?)?;
    Some((*of, usize::try_from(token & 0xffff_ffff).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_tells_what_it_was_made_of() {
        for of in ALL {
            assert_eq!(parts(token(of, 77)), Some((of, 77)));
        }
        assert_eq!(parts(u64::MAX), None);
    }
}
