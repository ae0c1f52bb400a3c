//! Which daemon is meant: the first of --host, --context, TINYD_HOST, TINYD_CONTEXT, the current context, this host's own
//! socket. What is typed goes before what the environment says.

use std::path::PathBuf;

use tinyd_core::{Error, Result};

use super::{
    context::store::{Context, Store},
    globals::Globals,
};
use crate::client::{Endpoint, TlsFiles};

/// Where this host's daemon listens.
pub(super) const DEFAULT_HOST: &str = "unix:///run/tinyd/tinyd.sock";

/// Finds the daemon that these options, this environment and the stored contexts mean.
///
/// # Errors
/// `InvalidArgument`: a URL that is none, TLS files that are missing; `NotFound`: no such context.
pub(super) fn resolve(globals: &Globals) -> Result<Endpoint> {
    choose(globals, |key| std::env::var(key).ok().filter(|value| !value.is_empty()), Store::read)
}

fn choose(
    globals: &Globals,
    env: impl Fn(&str) -> Option<String>,
    store: impl FnOnce() -> Result<Store>,
) -> Result<Endpoint> {
    let (field, context) = if let Some(host) = globals.host.clone() {
        ("--host", Context { host, ..Context::default() })
    } else if let Some(name) = &globals.context {
        ("--context", store()?.named("--context", name)?)
    } else if let Some(host) = env("TINYD_HOST") {
        ("TINYD_HOST", Context { host, ..Context::default() })
    } else if let Some(name) = env("TINYD_CONTEXT") {
        ("TINYD_CONTEXT", store()?.named("TINYD_CONTEXT", &name)?)
    } else {
        ("context", store()?.current()?)
    };
    endpoint(field, &with_tls(context, globals, env("TINYD_CERT_PATH").map(PathBuf::from)))
}

/// The context with this call's own TLS files in place of its own.
fn with_tls(mut context: Context, globals: &Globals, directory: Option<PathBuf>) -> Context {
    let file = |name: &str| directory.as_ref().map(|directory| directory.join(name));
    let given = [
        (&globals.tlscacert, &mut context.tls_ca, "ca.pem"),
        (&globals.tlscert, &mut context.tls_cert, "cert.pem"),
        (&globals.tlskey, &mut context.tls_key, "key.pem"),
    ];
    for (option, own, name) in given {
        *own = option.clone().or(own.take()).or_else(|| file(name));
    }
    context
}

/// The address that a context stands for.
///
/// # Errors
/// `InvalidArgument` of `field`: the URL is none, or a TLS file is missing.
pub(super) fn endpoint(field: &str, context: &Context) -> Result<Endpoint> {
    Endpoint::parse(field, &context.host, tls(context)?)
}

/// All three files or none.
fn tls(context: &Context) -> Result<Option<TlsFiles>> {
    let missing = |flag: &str| {
        Error::invalid(
            flag,
            "missing: a daemon on TCP wants a certificate: --tlscacert, --tlscert and --tlskey (tinyd cert makes them)",
        )
    };
    match (&context.tls_ca, &context.tls_cert, &context.tls_key) {
        (None, None, None) => Ok(None),
        (None, _, _) => Err(missing("--tlscacert")),
        (_, None, _) => Err(missing("--tlscert")),
        (_, _, None) => Err(missing("--tlskey")),
        (Some(ca), Some(cert), Some(key)) => {
            Ok(Some(TlsFiles { ca: ca.clone(), cert: cert.clone(), key: key.clone() }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> Result<Store> {
        let mut store = Store::default();
        for (name, host) in [("edge", "tcp://edge:1"), ("lab", "tcp://lab:1"), ("now", "tcp://now:1")] {
            store.contexts.insert(name.into(), Context { host: host.into(), ..Context::default() });
        }
        store.current = Some("now".into());
        Ok(store)
    }

    fn chosen(host: Option<&str>, context: Option<&str>, env: &[(&str, &str)]) -> String {
        let globals =
            Globals { host: host.map(Into::into), context: context.map(Into::into), ..Globals::default() };
        let env = |key: &str| env.iter().find(|(name, _)| *name == key).map(|(_, value)| (*value).to_owned());
        match choose(&globals, env, store) {
            Ok(Endpoint::Unix(path)) => path.display().to_string(),
            Ok(Endpoint::Tcp { authority, .. }) => authority,
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn the_first_that_says_where_wins() {
        let env = [("TINYD_HOST", "tcp://env:1"), ("TINYD_CONTEXT", "lab")];
        assert_eq!(chosen(Some("unix:///x"), Some("edge"), &env), "/x");
        assert_eq!(chosen(None, Some("edge"), &env), "edge:1");
        assert_eq!(chosen(None, None, &env), "env:1");
        assert_eq!(chosen(None, None, &env[1..]), "lab:1");
        assert_eq!(chosen(None, None, &[]), "now:1");
        assert!(chosen(None, Some("nope"), &[]).contains("--context: there is no context \"nope\""));
    }

    #[test]
    fn without_a_word_it_is_this_hosts_socket() {
        let chosen = choose(&Globals::default(), |_| None, || Ok(Store::default())).unwrap();
        assert_eq!(chosen, Endpoint::Unix("/run/tinyd/tinyd.sock".into()));
    }

    #[test]
    fn tls_takes_three_files() {
        let globals =
            Globals { host: Some("tcp://e:1".into()), tlscert: Some("c".into()), ..Globals::default() };
        let error = choose(&globals, |_| None, store).unwrap_err();
        assert_eq!(error.field(), Some("--tlscacert"));
        let env = |key: &str| (key == "TINYD_CERT_PATH").then(|| "/certs".to_owned());
        let Endpoint::Tcp { tls: Some(tls), .. } = choose(&globals, env, store).unwrap() else { panic!() };
        assert_eq!((tls.ca, tls.cert), ("/certs/ca.pem".into(), "c".into()));
    }
}
