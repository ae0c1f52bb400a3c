//! `create`: the definition is checked, what it needs is claimed under one lock, and the record is written. Nothing runs yet.

use std::sync::Arc;

use tinyd_core::{
    ContainerId, Error, Kind, Name, Result,
    config::{ContainerConfig, MountSource, NetworkMode, UsernsChoice},
};

use crate::{
    Inner,
    api::Created,
    blocking,
    check::{self, make_host_dir},
    container::{Seat, appoint, now},
    failpoint::fail,
    files::Durability,
    handle::{Handle, View},
    images::{self, Base},
    names,
    record::{Endpoint, Record},
    registry::Tables,
    remove::discard_files,
    volumes,
};

/// What the record of a container of the host's network says about its user namespace.
const HOST_NETWORK_WARNING: &str = "with the host's network the host's user namespace is used: root inside is root outside, less the dropped capabilities";
/// What it says with a storage driver that cannot.
const STORAGE_WARNING: &str =
    "this storage driver cannot map user ids: root inside is root outside, less the dropped capabilities";
/// What it says where the kernel has no user namespaces.
const NO_USERNS_WARNING: &str =
    "this kernel has no user namespaces: root inside is root outside, less the dropped capabilities";

/// Defines a container.
pub(crate) async fn create(inner: &Arc<Inner>, config: ContainerConfig) -> Result<Created> {
    let handle = define(inner, config, Purpose::Keep).await?;
    Ok(Created { id: handle.record.id.clone(), warnings: handle.record.warnings.clone() })
}

/// What a container is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To be started some time.
    Keep,
    /// To be started at once; whoever does that brings the record to disk meanwhile, see [`sync_record`].
    Run,
}

/// Makes a container's record and its owner.
pub(crate) async fn define(inner: &Arc<Inner>, config: ContainerConfig, purpose: Purpose) -> Result<Handle> {
    let inner = Arc::clone(inner);
    blocking(move || {
        let mut config = config;
        let base = images::base(&inner, &mut config)?;
        check::check(&config, &inner.host)?;
        let (handle, seat) = claim(&inner, config, &base, purpose)?;
        // From here on the record keeps the layers.
        drop(base);
        if let Err(error) = write(&inner, &handle.record, purpose) {
            undo(&inner, &handle.record);
            return Err(error.context(format_args!("create {}", handle.record.name)));
        }
        // Whoever has found the name already has waited until here.
        seat.sit();
        Ok(handle)
    })
    .await
}

/// Takes away what [`write`] has made of a container that cannot be. The name is free in any case.
fn undo(inner: &Inner, record: &Record) {
    let retired = volumes::retire_own(inner, record);
    inner.registry.lock().containers.remove(&record.id);
    let discarded = discard_files(inner, &record.id);
    let deleted = retired.and_then(|doomed| volumes::delete(&doomed));
    for error in [discarded, deleted].into_iter().filter_map(Result::err) {
        tracing::warn!(%error, "undo: remove the record");
    }
}

fn write(inner: &Inner, record: &Record, purpose: Purpose) -> Result<()> {
    let durability = if purpose == Purpose::Run { Durability::Cached } else { Durability::Synced };
    record.write(&inner.layout, durability)?;
    fail(&inner.config.failpoint, "engine.record")?;
    for mount in &record.config.mounts {
        match &mount.source {
            MountSource::Host(path) => make_host_dir(path)?,
            MountSource::Volume(name) if record.own_volumes.contains(name) => volumes::make_own(inner, name)?,
            MountSource::Volume(name) => drop(volumes::files_of(inner, name)?),
            MountSource::Tmpfs { .. } => {}
        }
    }
    images::fill_volumes(inner, record)
}

/// Brings to disk what [`define`] wrote for a container that is to outlive a power cut.
pub(crate) async fn sync_record(inner: &Arc<Inner>, handle: &Handle) -> Result<()> {
    if handle.record.config.auto_remove {
        // A power cut ends it, and then it would be removed.
        return Ok(());
    }
    let (inner, record) = (Arc::clone(inner), handle.record());
    blocking(move || record.sync(&inner.layout)).await
}

/// Chooses and takes, under one lock, what the container needs: name, address, user ids.
fn claim(
    inner: &Arc<Inner>,
    mut config: ContainerConfig,
    base: &Base,
    purpose: Purpose,
) -> Result<(Handle, Seat)> {
    let id = new_id()?;
    let mut tables = inner.registry.lock();
    let name = match config.name.take() {
        Some(name) => tables.check_name(&name).map(|()| name)?,
        None => free_name(&tables)?,
    };
    let mut warnings = Vec::new();
    let endpoint = place(&mut tables, &mut config)?;
    let can = Can { kernel: inner.host.has_userns, storage: inner.driver.maps_ids() };
    let userns_base = match choose_userns(&config, &endpoint, can, &mut warnings)? {
        true => Some(tables.free_userns()?),
        false => None,
    };
    config.name = Some(name.clone());
    let record = Record {
        id: id.clone(),
        name,
        created_unix_nanos: now(),
        config,
        image: base.used.clone(),
        own_volumes: base.volumes.clone(),
        storage: inner.driver.name().to_owned(),
        userns_base,
        endpoint,
        run: purpose == Purpose::Run,
        era: inner.era.clone(),
        warnings,
    };
    let (handle, seat) = appoint(inner, record, View::default());
    tables.containers.insert(id, handle.clone());
    Ok((handle, seat))
}

/// Where the container is on the network. Another container is named by its id from now on.
fn place(tables: &mut Tables, config: &mut ContainerConfig) -> Result<Endpoint> {
    match &config.network {
        NetworkMode::Default => tables.free_address(&crate::networks::default_name()),
        NetworkMode::Named(name) => tables.free_address(&name.clone()),
        NetworkMode::Host => Ok(Endpoint::Host),
        NetworkMode::None => Ok(Endpoint::None),
        NetworkMode::Container(who) => {
            let other = tables.find(who).map_err(|error| error.of_field("--net"))?;
            let view = other.view();
            if !view.state.is_alive() {
                return Err(Error::new(
                    Kind::WrongState,
                    format!(
                        "container {} is {}: its network can be shared while it runs",
                        other.record.name,
                        view.state.word()
                    ),
                )
                .of_field("--net"));
            }
            let endpoint = match &other.record.endpoint {
                Endpoint::Bridge { .. } | Endpoint::None => Endpoint::Container(other.record.id.clone()),
                shared @ (Endpoint::Host | Endpoint::Container(_)) => shared.clone(),
            };
            config.network = NetworkMode::Container(other.record.id.to_string());
            Ok(endpoint)
        }
    }
}

/// What this daemon can do about user namespaces.
#[derive(Clone, Copy, Debug)]
struct Can {
    /// Whether the kernel makes them.
    kernel: bool,
    /// Whether the storage driver can show files with other ids.
    storage: bool,
}

/// Whether the container gets a user namespace of its own.
fn choose_userns(
    config: &ContainerConfig,
    endpoint: &Endpoint,
    can: Can,
    warnings: &mut Vec<String>,
) -> Result<bool> {
    let choice = config.security.userns;
    if config.security.privileged || choice == UsernsChoice::Host {
        return Ok(false);
    }
    let impossible = match can {
        Can { kernel: false, .. } => Some(NO_USERNS_WARNING),
        Can { storage: false, .. } => Some(STORAGE_WARNING),
        Can { kernel: true, storage: true } => None,
    };
    let better_not = match endpoint {
        Endpoint::Host => Some(HOST_NETWORK_WARNING),
        Endpoint::Bridge { .. } | Endpoint::None | Endpoint::Container(_) => None,
    };
    match (choice, impossible, impossible.or(better_not)) {
        (UsernsChoice::Auto, Some(reason), _) => {
            Err(Error::new(Kind::Unsupported, format!("a user namespace was asked for: {reason}"))
                .of_field("--userns"))
        }
        (UsernsChoice::Default, _, Some(reason)) => {
            warnings.push(reason.to_owned());
            Ok(false)
        }
        (UsernsChoice::Auto | UsernsChoice::Default | UsernsChoice::Host, _, _) => Ok(true),
    }
}

fn new_id() -> Result<ContainerId> {
    loop {
        let id = ContainerId::from_bytes(random()?);
        // A short id of digits alone would be taken for a number by some programs.
        if id.short().bytes().any(|b| b.is_ascii_alphabetic()) {
            return Ok(id);
        }
    }
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::new(Kind::Internal, format!("read random bytes: {error}")))?;
    Ok(bytes)
}

fn free_name(tables: &Tables) -> Result<Name> {
    for attempt in 0_u32.. {
        let name = names::name(random()?, attempt);
        let name = Name::parse("--name", &name)?;
        if tables.check_name(&name).is_ok() {
            return Ok(name);
        }
    }
    Err(Error::new(Kind::Exhausted, "no name is left"))
}

#[cfg(test)]
mod tests {
    use tinyd_core::config::Security;

    use super::*;

    #[test]
    fn who_gets_a_user_namespace() {
        let config = |userns, privileged| ContainerConfig {
            security: Security { userns, privileged, ..Security::default() },
            ..ContainerConfig::default()
        };
        let mut warnings = Vec::new();
        let mut choose = |userns, privileged, endpoint: &Endpoint, kernel| {
            warnings.clear();
            let can = Can { kernel, storage: true };
            let chosen = choose_userns(&config(userns, privileged), endpoint, can, &mut warnings);
            (chosen.map_err(|error| error.kind()), warnings.len())
        };
        use UsernsChoice::{Auto, Default, Host};
        assert_eq!(choose(Default, false, &Endpoint::None, true), (Ok(true), 0));
        assert_eq!(choose(Default, true, &Endpoint::None, true), (Ok(false), 0));
        assert_eq!(choose(Host, false, &Endpoint::None, true), (Ok(false), 0));
        assert_eq!(choose(Default, false, &Endpoint::Host, true), (Ok(false), 1));
        assert_eq!(choose(Auto, false, &Endpoint::Host, true), (Ok(true), 0));
        assert_eq!(choose(Default, false, &Endpoint::None, false), (Ok(false), 1));
        assert_eq!(choose(Auto, false, &Endpoint::None, false), (Err(Kind::Unsupported), 0));
    }
}
