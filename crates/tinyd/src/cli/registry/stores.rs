//! Where credentials are: tinyd's own file, which `login` writes, and behind it those of others, which are only read.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use tinyd_core::{Error, Kind, Result};
use tinyd_engine::api::{AuthFile, Login};

use super::helper;
use crate::cli::{
    failure::warn,
    home::{config_dir_of, variable},
};

/// The credentials for a repository of a registry, of the first place that has some. Somebody else's file or helper that cannot be read is told, and passed over.
///
/// # Errors
/// tinyd's own file cannot be read.
pub(super) fn find(registry: &str, repository: &str) -> Result<Option<Login>> {
    if let Some(path) = own_path(&variable)
        && let Some(login) = of(&AuthFile::read(&path)?, registry, repository)?
    {
        return Ok(Some(login));
    }
    for path in others(&variable) {
        match AuthFile::read(&path).and_then(|file| of(&file, registry, repository)) {
            Ok(None) => {}
            Ok(found) => return Ok(found),
            Err(error) => warn(&[error.to_string()]),
        }
    }
    Ok(None)
}

/// What a file has, or the helper that it names.
fn of(file: &AuthFile, registry: &str, repository: &str) -> Result<Option<Login>> {
    if let Some(helper) = file.helper(registry) {
        match helper::get(&helper) {
            Ok(None) => {}
            Ok(found) => return Ok(found),
            Err(error) => warn(&[error.to_string()]),
        }
    }
    file.login(registry, repository)
}

/// The file of somebody else's that has credentials for a registry, too.
pub(super) fn elsewhere(registry: &str) -> Option<PathBuf> {
    let has = |path: &PathBuf| {
        AuthFile::read(path).is_ok_and(|file| matches!(file.login(registry, ""), Ok(Some(_))))
    };
    others(&variable).into_iter().find(has)
}

/// Puts credentials where they are found again.
pub(super) fn keep(registry: &str, login: &Login) -> Result<()> {
    let own = Own::lock()?;
    let mut file = AuthFile::read(&own.path)?;
    if let Some(helper) = file.helper(registry) {
        return helper::store(&helper, login);
    }
    file.set(registry, login);
    file.write()
}

/// Takes them away; whether there were any.
pub(super) fn forget(registry: &str) -> Result<bool> {
    let own = Own::lock()?;
    let mut file = AuthFile::read(&own.path)?;
    let erased = file.helper(registry).is_some_and(|helper| match helper::erase(&helper) {
        Ok(erased) => erased,
        Err(error) => {
            warn(&[error.to_string()]);
            false
        }
    });
    let removed = file.remove(registry);
    if removed {
        file.write()?;
    }
    Ok(erased || removed)
}

/// tinyd's own file, which nobody else changes meanwhile.
struct Own {
    path: PathBuf,
    _directory: File,
}

impl Own {
    fn lock() -> Result<Own> {
        let path = own_path(&variable)
            .ok_or_else(|| Error::new(Kind::Internal, "neither XDG_CONFIG_HOME nor HOME is set"))?;
        let directory = path.parent().unwrap_or_else(|| Path::new("/"));
        let told =
            |source: io::Error| Error::internal(&source).context(format_args!("use {}", directory.display()));
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(told)?;
        let file = File::open(directory).map_err(told)?;
        flock(&file, FlockOperation::LockExclusive).map_err(|errno| told(errno.into()))?;
        Ok(Own { path, _directory: file })
    }
}

fn own_path(env: &impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    Some(config_dir_of(env)?.join("tinyd/auth.json"))
}

/// Where others keep theirs: podman and skopeo (containers-auth.json(5)), then Docker.
fn others(env: &impl Fn(&str) -> Option<PathBuf>) -> Vec<PathBuf> {
    let containers = |dir: PathBuf| dir.join("containers/auth.json");
    let docker = env("DOCKER_CONFIG").or_else(|| env("HOME").map(|home| home.join(".docker")));
    [
        env("REGISTRY_AUTH_FILE"),
        env("XDG_RUNTIME_DIR").map(containers),
        config_dir_of(env).map(containers),
        docker.map(|dir| dir.join("config.json")),
    ]
    .into_iter()
    .flatten()
    .filter(|path| fs::exists(path).unwrap_or(true))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybodys_files_are_known() {
        let dir = std::env::temp_dir().join(format!("tinyd-auth-{}", std::process::id()));
        let env = |key: &str| match key {
            "HOME" => Some(dir.join("home")),
            "XDG_RUNTIME_DIR" => Some(dir.join("run")),
            "REGISTRY_AUTH_FILE" => Some(dir.join("own.json")),
            _ => None,
        };
        assert_eq!(own_path(&env), Some(dir.join("home/.config/tinyd/auth.json")));
        assert_eq!(own_path(&|_: &str| None), None);
        assert_eq!(others(&env), Vec::<PathBuf>::new());
        let all = [
            "own.json",
            "run/containers/auth.json",
            "home/.config/containers/auth.json",
            "home/.docker/config.json",
        ]
        .map(|name| dir.join(name));
        for path in &all {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "{}").unwrap();
        }
        assert_eq!(others(&env), all);
        let elsewhere = |key: &str| match key {
            "DOCKER_CONFIG" => Some(dir.join("home/.docker")),
            _ => None,
        };
        assert_eq!(others(&elsewhere), [dir.join("home/.docker/config.json")]);
        fs::remove_dir_all(dir).unwrap();
    }
}
