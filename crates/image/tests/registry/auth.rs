//! Who learns what: names, passwords, tokens and certificates go to whom they are for.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use tinyd_core::{Error, Kind};
use tinyd_image::registry::{
    PullOptions, Pulled,
    credentials::{Credentials, Login},
};

use crate::{
    Here, assert_says,
    made::{Made, is_layer},
    name,
    server::{Asked, Reply, Server, not_found},
};

const PASSWORD: &str = "correct horse";

fn login() -> Login {
    Login::Password { username: "who".into(), password: PASSWORD.into() }
}

fn basic() -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("who:{PASSWORD}")))
}

fn options(registry: &str, login: Login) -> PullOptions {
    PullOptions { credentials: Credentials::of(registry, login), ..PullOptions::default() }
}

async fn pull(here: &Here, server: &Server, options: &PullOptions) -> Result<Pulled, Error> {
    here.client().pull(&name(&format!("{}/a", server.host())), options).await
}

fn unauthorized(challenge: &str) -> Reply {
    Reply::new(401, "").with("WWW-Authenticate", challenge)
}

fn authorization(asked: &Asked) -> Option<String> {
    asked.header("authorization").map(str::to_owned)
}

/// A registry whose token server is itself, and of which each token is good for so many requests.
fn with_tokens(made: &Made, good_for: usize) -> Server {
    let (image, uses) = (made.clone(), AtomicUsize::new(0));
    Server::plain(move |asked| {
        if asked.path.starts_with("/token") {
            let number = uses.load(Ordering::Relaxed) / good_for;
            return Reply::new(200, format!(r#"{{"token":"t{number}","expires_in":300}}"#));
        }
        let wanted = format!("Bearer t{}", uses.load(Ordering::Relaxed) / good_for);
        if authorization(asked) != Some(wanted) {
            let realm = format!("http://{}/token", asked.header("host").unwrap());
            return unauthorized(&format!("Bearer realm=\"{realm}\",service=\"the service\""));
        }
        uses.fetch_add(1, Ordering::Relaxed);
        image.answer(asked)
    })
}

#[tokio::test]
async fn a_token_is_fetched_once_and_again_when_it_is_not_good_any_more() {
    let made = Made::new(1, 3, 1000);
    for (good_for, tokens) in [(100, 1), (1, 5)] {
        let (here, server) = (Here::new(), with_tokens(&made, good_for));
        here.allow_plain(&server.host());
        let mut config = here.config();
        // One after the other, so that it can be counted.
        config.layers_at_once = 1;
        let client = tinyd_image::registry::Client::new(here.store.clone(), config);
        client.pull(&name(&format!("{}/a", server.host())), &PullOptions::default()).await.unwrap();
        assert_eq!(server.count("GET", "/token"), tokens);
        let asked = server.asked().into_iter().find(|asked| asked.path.starts_with("/token")).unwrap();
        assert_eq!(asked.path, "/token?service=the%20service&scope=repository%3Aa%3Apull");
        assert_eq!(authorization(&asked), None);
    }
}

#[tokio::test]
async fn a_password_is_shown_to_the_token_server_alone() {
    let (here, server) = (Here::new(), with_tokens(&Made::new(2, 2, 1000), 100));
    here.allow_plain(&server.host());
    pull(&here, &server, &options(&server.host(), login())).await.unwrap();
    for asked in server.asked() {
        let is_token = asked.path.starts_with("/token");
        assert_eq!(authorization(&asked) == Some(basic()), is_token, "{asked:?}");
        assert!(!is_token || asked.path.contains("account=who"), "{asked:?}");
    }
}

#[tokio::test]
async fn an_identity_token_is_exchanged_for_one_that_is_good_for_less() {
    let (here, server) = (Here::new(), with_tokens(&Made::new(3, 1, 1000), 100));
    here.allow_plain(&server.host());
    pull(&here, &server, &options(&server.host(), Login::IdentityToken("long&lived".into()))).await.unwrap();
    let asked = server.asked().into_iter().find(|asked| asked.path.starts_with("/token")).unwrap();
    let body = String::from_utf8(asked.body).unwrap();
    assert_eq!((asked.method.as_str(), asked.path.as_str()), ("POST", "/token"));
    for part in ["grant_type=refresh_token", "refresh_token=long%26lived", "scope=repository%3Aa%3Apull"] {
        assert!(body.contains(part), "{body}");
    }
}

#[tokio::test]
async fn somebody_elses_token_server_is_not_asked() {
    let thief = Arc::new(Server::plain(|_| Reply::new(200, r#"{"token":"x"}"#)));
    let realm = format!("http://{}/token", thief.other_name());
    let shown = realm.clone();
    let server = Server::plain(move |_| unauthorized(&format!("Bearer realm=\"{realm}\"")));
    let here = Here::new();
    here.allow_plain(&server.host());
    for options in [options(&server.host(), login()), PullOptions::default()] {
        let error = pull(&here, &server, &options).await.unwrap_err();
        assert_says(&error, Kind::PermissionDenied, &[&shown, "belongs to somebody else"]);
    }
    assert_eq!(thief.asked().len(), 0);
}

#[tokio::test]
async fn a_token_server_without_tls_is_not_asked_for_a_registry_with() {
    let thief = Server::plain(|_| Reply::new(200, r#"{"token":"x"}"#));
    let realm = format!("http://{}/token", thief.host());
    let server = Server::tls(move |_| unauthorized(&format!("Bearer realm=\"{realm}\"")));
    let here = Here::new();
    here.etc(&server.host(), "ca.crt", server.certificate.as_deref().unwrap());
    let error = pull(&here, &server, &options(&server.host(), login())).await.unwrap_err();
    assert_says(&error, Kind::PermissionDenied, &["is not https"]);
    assert_eq!(thief.asked().len(), 0);
}

/// A registry that wants name and password.
fn with_password(made: &Made, password: &str) -> Server {
    let (image, wanted) = (made.clone(), format!("Basic {}", BASE64_STANDARD.encode(password)));
    Server::plain(move |asked| match authorization(asked) {
        Some(shown) if shown == wanted => image.answer(asked),
        _ => unauthorized("Basic realm=\"x\""),
    })
}

#[tokio::test]
async fn name_and_password_are_shown_when_they_are_wanted_and_refused_once() {
    let made = Made::new(4, 2, 1000);
    let (here, server) = (Here::new(), with_password(&made, &format!("who:{PASSWORD}")));
    here.allow_plain(&server.host());
    pull(&here, &server, &options(&server.host(), login())).await.unwrap();
    let asked = server.asked();
    // Nothing is shown that was not asked for, and what was is not asked for twice.
    assert_eq!(asked.iter().filter(|asked| authorization(asked).is_none()).count(), 1);
    assert_eq!(authorization(&asked[0]), None);

    let (here, server) = (Here::new(), with_password(&made, "other:one"));
    here.allow_plain(&server.host());
    let error = pull(&here, &server, &options(&server.host(), login())).await.unwrap_err();
    assert_says(&error, Kind::PermissionDenied, &["401", "tinyd login", "with other credentials"]);
    assert!(!error.message().contains(PASSWORD));
    assert_eq!(server.asked().len(), 2);
    let error = pull(&here, &server, &PullOptions::default()).await.unwrap_err();
    assert_says(&error, Kind::PermissionDenied, &["tinyd login", "first"]);
    assert_eq!(server.asked().len(), 3);
}

#[tokio::test]
async fn who_may_not_have_an_image_does_not_have_it_from_somebody_elses_pull() {
    let (here, server) = (Here::new(), with_password(&Made::new(11, 1, 1000), &format!("who:{PASSWORD}")));
    here.allow_plain(&server.host());
    let (client, reference) = (here.client(), name(&format!("{}/a", server.host())));
    let (known, stranger) = (options(&server.host(), login()), PullOptions::default());
    // Beside it, and when all of it is here.
    let (first, second) = tokio::join!(client.pull(&reference, &known), client.pull(&reference, &stranger));
    let manifest = first.unwrap().manifest;
    let again = client.pull(&reference, &stranger).await;
    let by_digest = client.pull(&reference.with_digest(manifest.clone()), &stranger).await;
    let unchanged = PullOptions { known: Some(manifest), ..PullOptions::default() };
    let when_known = client.pull(&reference, &unchanged).await;
    for refused in [second, again, by_digest, when_known] {
        assert_says(&refused.unwrap_err(), Kind::PermissionDenied, &["401"]);
    }
}

#[tokio::test]
async fn a_mirror_does_not_see_what_is_for_the_registry() {
    let made = Made::new(5, 1, 1000);
    let mirror = Server::plain(|_| unauthorized("Basic realm=\"x\""));
    let server = with_password(&made, &format!("who:{PASSWORD}"));
    let here = Here::new();
    let hosts = format!("server = \"http://{}\"\n[host.\"http://{}\"]\n", server.host(), mirror.host());
    here.etc(&server.host(), "hosts.toml", &hosts);
    pull(&here, &server, &options(&server.host(), login())).await.unwrap();
    assert!(!mirror.asked().is_empty());
    assert!(mirror.asked().iter().all(|asked| authorization(asked).is_none()));
}

#[tokio::test]
async fn behind_a_redirect_nobody_learns_who_asks_not_even_on_the_way_back() {
    let made = Made::new(6, 2, 1000);
    let image = made.clone();
    let other = Arc::new(Server::plain(move |asked| match asked.path.strip_prefix("/back") {
        // The second layer is where the first host has it, after all.
        Some(rest) => {
            let (host, path) = rest.trim_start_matches('/').split_once('/').unwrap();
            Reply::new(302, "").with("Location", format!("http://{host}/{path}"))
        }
        None => image.answer(asked),
    }));
    let (image, to) = (made.clone(), other.host());
    let server = Server::plain(move |asked| {
        if asked.path.starts_with("/open/") {
            return image.answer(&asked.at(asked.path.trim_start_matches("/open")));
        }
        if authorization(asked) != Some(basic()) || asked.header("x-key") != Some("secret") {
            return unauthorized("Basic realm=\"x\"");
        }
        let host = asked.header("host").unwrap();
        match () {
            () if is_layer(asked, &image, 0) => {
                Reply::new(307, "").with("Location", format!("http://{to}{}", asked.path))
            }
            () if is_layer(asked, &image, 1) => {
                Reply::new(307, "").with("Location", format!("http://{to}/back/{host}/open{}", asked.path))
            }
            () => image.answer(asked),
        }
    });
    let here = Here::new();
    let hosts = format!("server = \"http://{}\"\n[header]\nx-key = \"secret\"\n", server.host());
    here.etc(&server.host(), "hosts.toml", &hosts);
    pull(&here, &server, &options(&server.host(), login())).await.unwrap();
    let (back, there) = (server.asked(), other.asked());
    let back: Vec<_> = back.iter().filter(|asked| asked.path.starts_with("/open/")).collect();
    assert_eq!((there.len(), back.len()), (2, 1));
    for asked in there.iter().chain(back) {
        assert_eq!((authorization(asked), asked.header("x-key")), (None, None), "{asked:?}");
    }
}

#[tokio::test]
async fn who_is_behind_a_redirect_cannot_have_it_asked_who_asks() {
    let made = Made::new(9, 1, 1000);
    let other = Server::plain(|_| unauthorized("Basic realm=\"x\""));
    let (image, to) = (made.clone(), other.host());
    let server = Server::plain(move |asked| match is_layer(asked, &image, 0) {
        true => Reply::new(307, "").with("Location", format!("http://{to}/x")),
        false => image.answer(asked),
    });
    let here = Here::new();
    here.allow_plain(&server.host());
    let error = pull(&here, &server, &options(&server.host(), login())).await.unwrap_err();
    assert_says(&error, Kind::PermissionDenied, &["layer 1", "401"]);
    assert!(server.asked().iter().chain(&other.asked()).all(|asked| authorization(asked).is_none()));
}

#[tokio::test]
async fn a_redirect_that_gives_tls_up_or_leads_in_a_circle_is_not_followed() {
    let made = Made::new(7, 1, 1000);
    let other = Server::plain(|_| not_found());
    let (image, to) = (made.clone(), other.host());
    let server = Server::tls(move |asked| match is_layer(asked, &image, 0) {
        true => Reply::new(307, "").with("Location", format!("http://{to}/x")),
        false => image.answer(asked),
    });
    let here = Here::new();
    here.etc(&server.host(), "ca.crt", server.certificate.as_deref().unwrap());
    let error = pull(&here, &server, &PullOptions::default()).await.unwrap_err();
    assert_says(&error, Kind::InvalidArgument, &["layer 1", "without TLS"]);
    assert_eq!(other.asked().len(), 0);

    let server = Server::plain(|asked| Reply::new(302, "").with("Location", &asked.path));
    let here = Here::new();
    here.allow_plain(&server.host());
    let error = pull(&here, &server, &PullOptions::default()).await.unwrap_err();
    assert_says(&error, Kind::InvalidArgument, &["more than 5 times"]);
    assert_eq!(server.asked().len(), 6);
}

#[tokio::test]
async fn a_host_is_insecure_only_when_that_is_said_of_it() {
    let made = Made::new(8, 1, 1000);
    let image = made.clone();
    let plain = Server::plain(move |asked| image.answer(asked));
    let here = Here::new();
    let error = pull(&here, &plain, &PullOptions::default()).await.unwrap_err();
    assert_says(&error, Kind::Unavailable, &["it does not speak TLS"]);
    assert_eq!(plain.asked().len(), 0);
    here.allow_plain(&plain.host());
    pull(&here, &plain, &PullOptions::default()).await.unwrap();

    let secure = Server::tls(move |asked| made.answer(asked));
    let here = Here::new();
    let error = pull(&here, &secure, &PullOptions::default()).await.unwrap_err();
    assert_says(&error, Kind::Unavailable, &["its certificate cannot be trusted"]);
    assert_eq!(secure.asked().len(), 0);
    here.etc(&secure.host(), "hosts.toml", "skip_verify = true\n");
    pull(&here, &secure, &PullOptions::default()).await.unwrap();
    let here = Here::new();
    here.etc(&secure.host(), "ca.crt", secure.certificate.as_deref().unwrap());
    pull(&here, &secure, &PullOptions::default()).await.unwrap();
    // Of that name, and no other.
    let error = here.pull(&format!("{}/a", secure.other_name())).await.unwrap_err();
    assert_says(&error, Kind::Unavailable, &["cannot be trusted"]);
}

#[tokio::test]
async fn an_authority_that_was_exchanged_counts_at_once() {
    let made = Made::new(12, 1, 1000);
    let (image, other) = (made.clone(), Server::tls(|_| not_found()));
    let server = Server::tls(move |asked| image.answer(asked));
    let here = Here::new();
    let path = here.etc(&server.host(), "ca.crt", other.certificate.as_deref().unwrap());
    let before = path.metadata().unwrap().modified().unwrap();
    let (client, reference) = (here.client(), name(&format!("{}/a", server.host())));
    let error = client.pull(&reference, &PullOptions::default()).await.unwrap_err();
    assert_says(&error, Kind::Unavailable, &["its certificate cannot be trusted"]);
    crate::until("another time", || {
        here.etc(&server.host(), "ca.crt", server.certificate.as_deref().unwrap());
        path.metadata().unwrap().modified().unwrap() != before
    })
    .await;
    client.pull(&reference, &PullOptions::default()).await.unwrap();
}

#[tokio::test]
async fn who_does_not_look_at_one_hosts_certificate_looks_at_the_next_ones() {
    let made = Made::new(10, 1, 1000);
    let other = Server::tls(|_| not_found());
    let (image, to) = (made.clone(), other.host());
    let server = Server::tls(move |asked| match is_layer(asked, &image, 0) {
        true => Reply::new(307, "").with("Location", format!("https://{to}/x")),
        false => image.answer(asked),
    });
    let here = Here::new();
    here.etc(&server.host(), "hosts.toml", "skip_verify = true\n");
    let error = pull(&here, &server, &PullOptions::default()).await.unwrap_err();
    assert_says(&error, Kind::Unavailable, &["layer 1", "its certificate cannot be trusted"]);
    assert_eq!(other.asked().len(), 0);
}
