//! Mount options: one table from the words of fstab and the OCI specification to what the kernel is told.
//!
//! A word that is not in the table is the file system's own (`size=64m`) and is handed to it unread; the kernel refuses what it
//! does not know.

use tinyd_core::{Error, Result};
use tinyd_sys::mount::Attr;

/// What one word does.
#[derive(Clone, Copy, Debug)]
enum Effect {
    /// Sets attribute bits of the mount.
    Set(u64),
    /// Clears them.
    Clear(u64),
    /// Sets how access times are kept.
    Atime(u64),
    /// As the three above, on the mounts below too.
    SetAll(u64),
    ClearAll(u64),
    AtimeAll(u64),
    /// A bind mount, with the mounts below it or without.
    Bind {
        recursive: bool,
    },
    /// `MS_…` propagation, of the mounts below too or not.
    Propagation {
        flag: u64,
        recursive: bool,
    },
    /// A flag of the file system itself that it is told by this name.
    Superblock,
    /// Shown with the container's ids.
    Idmap {
        recursive: bool,
        required: bool,
    },
    /// The default; nothing to do.
    Nothing,
    /// Changes a mount that is there.
    Remount,
    /// Begins with a copy of what it covers.
    CopyUp,
}

use Effect::{
    Atime, AtimeAll, Bind, Clear, ClearAll, CopyUp, Idmap, Nothing, Propagation, Remount, Set, SetAll,
    Superblock,
};

#[rustfmt::skip]
const TABLE: &[(&str, Effect)] = &[
    // What is between two commas with nothing between them.
    ("", Nothing),
    ("Z", Nothing),
    // Whether it has access control lists (`acl`) and counts changes (`iversion`) a file system decides by itself, whatever the flag of
    // mount(2) says that runc sets; fsconfig(2) has no word for either.
    ("acl", Nothing),
    ("async", Superblock),
    ("atime", Clear(Attr::NOATIME)),
    ("bind", Bind { recursive: false }),
    ("copy", Nothing),
    ("defaults", Nothing),
    ("dev", Clear(Attr::NODEV)),
    ("diratime", Clear(Attr::NODIRATIME)),
    ("dirsync", Superblock),
    ("exec", Clear(Attr::NOEXEC)),
    ("idmap", Idmap { recursive: false, required: true }),
    ("iversion", Nothing),
    ("lazytime", Superblock),
    ("loud", Nothing),
    ("mand", Superblock),
    ("noacl", Nothing),
    ("noatime", Atime(Attr::NOATIME)),
    ("nocopy", Nothing),
    ("nodev", Set(Attr::NODEV)),
    ("nodiratime", Set(Attr::NODIRATIME)),
    ("noexec", Set(Attr::NOEXEC)),
    ("noiversion", Nothing),
    ("nolazytime", Superblock),
    ("nomand", Superblock),
    ("norelatime", Atime(Attr::STRICTATIME)),
    ("nostrictatime", Clear(Attr::STRICTATIME)),
    ("nosuid", Set(Attr::NOSUID)),
    ("nosymfollow", Set(Attr::NOSYMFOLLOW)),
    ("private", Propagation { flag: libc::MS_PRIVATE, recursive: false }),
    ("ratime", ClearAll(Attr::NOATIME)),
    ("rbind", Bind { recursive: true }),
    ("rdev", ClearAll(Attr::NODEV)),
    ("rdiratime", ClearAll(Attr::NODIRATIME)),
    ("relatime", Atime(0)),
    ("remount", Remount),
    ("rexec", ClearAll(Attr::NOEXEC)),
    ("ridmap", Idmap { recursive: true, required: true }),
    ("rnoatime", AtimeAll(Attr::NOATIME)),
    ("rnodev", SetAll(Attr::NODEV)),
    ("rnodiratime", SetAll(Attr::NODIRATIME)),
    ("rnoexec", SetAll(Attr::NOEXEC)),
    ("rnorelatime", AtimeAll(Attr::STRICTATIME)),
    ("rnostrictatime", ClearAll(Attr::STRICTATIME)),
    ("rnosuid", SetAll(Attr::NOSUID)),
    ("rnosymfollow", SetAll(Attr::NOSYMFOLLOW)),
    ("ro", Set(Attr::RDONLY)),
    ("rprivate", Propagation { flag: libc::MS_PRIVATE, recursive: true }),
    ("rrelatime", AtimeAll(0)),
    ("rro", SetAll(Attr::RDONLY)),
    ("rrw", ClearAll(Attr::RDONLY)),
    ("rshared", Propagation { flag: libc::MS_SHARED, recursive: true }),
    ("rslave", Propagation { flag: libc::MS_SLAVE, recursive: true }),
    ("rstrictatime", AtimeAll(Attr::STRICTATIME)),
    ("rsuid", ClearAll(Attr::NOSUID)),
    ("rsymfollow", ClearAll(Attr::NOSYMFOLLOW)),
    ("runbindable", Propagation { flag: libc::MS_UNBINDABLE, recursive: true }),
    ("rw", Clear(Attr::RDONLY)),
    ("shared", Propagation { flag: libc::MS_SHARED, recursive: false }),
    ("silent", Nothing),
    ("slave", Propagation { flag: libc::MS_SLAVE, recursive: false }),
    ("strictatime", Atime(Attr::STRICTATIME)),
    ("suid", Clear(Attr::NOSUID)),
    ("symfollow", Clear(Attr::NOSYMFOLLOW)),
    ("sync", Superblock),
    ("tmpcopyup", CopyUp),
    ("unbindable", Propagation { flag: libc::MS_UNBINDABLE, recursive: false }),
    ("x-tinyd.idmap", Idmap { recursive: true, required: false }),
    ("z", Nothing),
];

/// Words of engines that they hand on with a volume's options: whether it is filled from the image, and which label its files have. They have
/// acted upon them by then.
pub(super) const ENGINES: [&str; 4] = ["Z", "copy", "nocopy", "z"];

/// The words of the table, for `features`.
pub fn known() -> impl Iterator<Item = &'static str> {
    let words = TABLE.iter().map(|(word, _)| *word);
    words.filter(|word| !matches!(*word, "" | "x-tinyd.idmap") && !ENGINES.contains(word))
}

/// What a mount's options come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// A bind mount; whether with the mounts below.
    pub bind: Option<bool>,
    /// Attributes and propagation of the mount.
    pub attr: Attr,
    /// Attributes and propagation of the mount and all below it.
    pub attr_all: Attr,
    /// What both come to on the mount itself: the words of either, in their order.
    pub whole: Attr,
    /// What the file system is told: a name, and a value where it takes one.
    pub data: Vec<(String, Option<String>)>,
    /// Whether it changes a mount that is there.
    pub remount: bool,
    /// Whether it begins with a copy of what it covers.
    pub copy_up: bool,
    /// Whether it shows the container's ids.
    pub idmap: Option<IdmapOption>,
    /// Ids of its own that it shows in place of them, as crun writes them: `uids=0-1-10;gids=0-1-10`.
    pub idmap_ids: Option<String>,
    /// The first word that is none of the table's.
    pub own_word: Option<String>,
}

/// How an id-mapped mount was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdmapOption {
    /// With the mounts below.
    pub recursive: bool,
    /// Whether a file system that cannot is an error.
    pub required: bool,
}

/// Reads the options of a mount; `field` is where they stand. Later words win over earlier ones.
///
/// # Errors
/// `InvalidArgument` for a NUL.
pub fn parse(field: &str, words: &[String]) -> Result<Options> {
    let mut options = Options::default();
    for word in words {
        match TABLE.binary_search_by(|(known, _)| (*known).cmp(word)) {
            Ok(at) => apply(&mut options, word, TABLE[at].1),
            Err(_) => match idmap_with_ids(word) {
                Some((idmap, ids)) => {
                    options.idmap = Some(idmap);
                    options.idmap_ids = Some(ids.to_owned());
                }
                None => {
                    options.data.push(own_option(field, word)?);
                    options.own_word.get_or_insert_with(|| word.clone());
                }
            },
        }
    }
    Ok(options)
}

fn apply(options: &mut Options, word: &str, effect: Effect) {
    match effect {
        Set(bits) => [&mut options.attr, &mut options.whole].into_iter().for_each(|attr| set(attr, bits)),
        Clear(bits) => [&mut options.attr, &mut options.whole].into_iter().for_each(|attr| clear(attr, bits)),
        Atime(bits) => [&mut options.attr, &mut options.whole].into_iter().for_each(|attr| atime(attr, bits)),
        SetAll(bits) => {
            [&mut options.attr_all, &mut options.whole].into_iter().for_each(|attr| set(attr, bits))
        }
        ClearAll(bits) => {
            [&mut options.attr_all, &mut options.whole].into_iter().for_each(|attr| clear(attr, bits))
        }
        AtimeAll(bits) => {
            [&mut options.attr_all, &mut options.whole].into_iter().for_each(|attr| atime(attr, bits))
        }
        Bind { recursive } => options.bind = Some(recursive),
        Propagation { flag, recursive } => {
            let attr = if recursive { &mut options.attr_all } else { &mut options.attr };
            attr.propagation = flag;
            options.whole.propagation = flag;
        }
        Superblock => options.data.push((word.to_owned(), None)),
        Idmap { recursive, required } => {
            options.idmap = Some(IdmapOption { recursive, required });
            options.idmap_ids = None;
        }
        Remount => options.remount = true,
        CopyUp => options.copy_up = true,
        Nothing => {}
    }
}

/// `idmap` or `ridmap` with ids.
fn idmap_with_ids(word: &str) -> Option<(IdmapOption, &str)> {
    let (word, ids) = word.split_once('=')?;
    let recursive = match word {
        "idmap" => false,
        "ridmap" => true,
        _ => return None,
    };
    Some((IdmapOption { recursive, required: true }, ids))
}

fn set(attr: &mut Attr, bits: u64) {
    attr.set |= bits;
    attr.clear &= !bits;
}

fn clear(attr: &mut Attr, bits: u64) {
    // The access time bits are one field: the kernel wants it cleared whole.
    let mask = if bits & Attr::ATIME_MASK == 0 { bits } else { Attr::ATIME_MASK };
    attr.set &= !bits;
    attr.clear |= mask;
}

fn atime(attr: &mut Attr, bits: u64) {
    attr.set = (attr.set & !Attr::ATIME_MASK) | bits;
    attr.clear |= Attr::ATIME_MASK;
}

fn own_option(field: &str, word: &str) -> Result<(String, Option<String>)> {
    if word.contains('\0') {
        return Err(Error::invalid(field, format!("{word:?} is not a mount option")));
    }
    Ok(match word.split_once('=') {
        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
        None => (word.to_owned(), None),
    })
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    fn options(words: &[&str]) -> Options {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        parse("mounts[0].options", &words).unwrap()
    }

    #[test]
    fn the_table_is_sorted_for_the_search() {
        assert!(TABLE.is_sorted_by(|(a, _), (b, _)| a < b));
    }

    #[test]
    fn later_words_win() {
        assert_eq!(options(&["ro", "rw"]).attr, Attr { clear: Attr::RDONLY, ..Attr::default() });
        assert_eq!(options(&["rw", "ro"]).attr, Attr { set: Attr::RDONLY, ..Attr::default() });
        let strict = options(&["noatime", "strictatime"]).attr;
        assert_eq!((strict.set, strict.clear), (Attr::STRICTATIME, Attr::ATIME_MASK));
    }

    #[test]
    fn a_file_systems_own_words_go_to_it() {
        let found = options(&["nosuid", "mode=755", "size=65536k", "newinstance", "sync"]);
        assert_eq!(found.attr.set, Attr::NOSUID);
        let own = |key: &str, value: Option<&str>| (key.to_owned(), value.map(str::to_owned));
        assert_eq!(
            found.data,
            [
                own("mode", Some("755")),
                own("size", Some("65536k")),
                own("newinstance", None),
                own("sync", None)
            ]
        );
    }

    #[test]
    fn recursive_words_are_kept_apart() {
        let found = options(&["rbind", "rro", "nosuid", "rslave"]);
        assert_eq!(found.bind, Some(true));
        assert_eq!(found.attr, Attr { set: Attr::NOSUID, ..Attr::default() });
        assert_eq!(found.attr_all, Attr { set: Attr::RDONLY, clear: 0, propagation: libc::MS_SLAVE });
        let both = Attr { set: Attr::RDONLY | Attr::NOSUID, clear: 0, propagation: libc::MS_SLAVE };
        assert_eq!(found.whole, both);
    }

    #[test]
    fn later_words_win_on_the_mount_itself_whatever_is_below() {
        assert_eq!(options(&["ro", "rrw"]).whole, Attr { clear: Attr::RDONLY, ..Attr::default() });
        assert_eq!(options(&["rrw", "ro"]).whole, Attr { set: Attr::RDONLY, ..Attr::default() });
        assert_eq!(options(&["unbindable", "rshared"]).whole.propagation, libc::MS_SHARED);
    }

    #[test]
    fn words_without_an_effect_are_no_option_of_the_file_system() {
        assert_eq!(options(&["", "acl", "size=1m", "noacl", ""]).data, [("size".into(), Some("1m".into()))]);
        assert!(known().all(|word| !word.is_empty()));
    }

    #[test]
    fn a_word_that_is_none_is_an_error_that_names_the_field() {
        assert!(parse("mounts[3].options", &["a\0b".to_owned()]).is_err());
    }

    proptest! {
        #[test]
        fn no_bit_is_both_set_and_cleared_but_for_access_times(
            words in vec(select(TABLE.iter().map(|(word, _)| *word).collect::<Vec<_>>()), 0..12),
        ) {
            let words: Vec<String> = words.into_iter().map(str::to_owned).collect();
            let found = parse("options", &words).unwrap();
            for attr in [found.attr, found.attr_all] {
                prop_assert_eq!(attr.set & attr.clear & !Attr::ATIME_MASK, 0);
                // What the kernel demands: an access time mode is only set with the field cleared.
                prop_assert!(attr.set & Attr::ATIME_MASK == 0 || attr.clear & Attr::ATIME_MASK == Attr::ATIME_MASK);
            }
        }
    }
}
