//! Where the user's own files are.

use std::path::PathBuf;

/// `$XDG_CONFIG_HOME`, or `~/.config`; `None` when neither is known.
pub(super) fn config_dir() -> Option<PathBuf> {
    config_dir_of(&variable)
}

/// The same, of another environment.
pub(super) fn config_dir_of(env: &impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    env("XDG_CONFIG_HOME").or_else(|| env("HOME").map(|home| home.join(".config")))
}

/// A variable of the environment that is an absolute path; another is as good as none (XDG Base Directory Specification).
pub(super) fn variable(key: &str) -> Option<PathBuf> {
    std::env::var_os(key).map(PathBuf::from).filter(|path| path.is_absolute())
}
