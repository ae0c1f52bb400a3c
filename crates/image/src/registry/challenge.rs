//! `WWW-Authenticate` (RFC 9110, section 11.6.1): what a registry wants to see. Strict: what cannot be read is no challenge at all.

use http::{HeaderMap, header};

/// The most challenges that are looked at.
const CHALLENGES_MAX: usize = 16;

/// One way that a registry offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// Name and password with every request.
    Basic,
    /// A token from somewhere.
    Bearer {
        /// Where the token is to be had.
        realm: String,
        /// For what.
        service: Option<String>,
    },
}

/// The challenges of an answer that tinyd knows, in their order.
pub(super) fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    let mut all = Vec::new();
    for value in headers.get_all(header::WWW_AUTHENTICATE) {
        let read = value.to_str().ok().and_then(|text| Reader(text).challenges());
        for (scheme, parameters) in read.unwrap_or_default() {
            let find = |wanted: &str| {
                let found = parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
                found.map(|(_, value)| value.clone())
            };
            if scheme.eq_ignore_ascii_case("basic") {
                all.push(Challenge::Basic);
            } else if scheme.eq_ignore_ascii_case("bearer")
                && let Some(realm) = find("realm")
            {
                all.push(Challenge::Bearer { realm, service: find("service") });
            }
        }
    }
    all.truncate(CHALLENGES_MAX);
    all
}

type Parameters = Vec<(String, String)>;

/// Reads `scheme name=value, name="value", scheme …`.
struct Reader<'a>(&'a str);

impl Reader<'_> {
    fn challenges(mut self) -> Option<Vec<(String, Parameters)>> {
        let mut all: Vec<(String, Parameters)> = Vec::new();
        loop {
            self.skip(" \t,");
            if self.0.is_empty() {
                return Some(all);
            }
            let word = self.token()?;
            let is_parameter = self.0.trim_start_matches([' ', '\t']).starts_with('=');
            if !is_parameter {
                // A scheme: a blank and a parameter, or a comma, or the end.
                if !(self.0.is_empty() || self.0.starts_with([' ', '\t', ','])) {
                    return None;
                }
                all.push((word, Vec::new()));
                continue;
            }
            self.skip(" \t");
            self.0 = &self.0[1..];
            self.skip(" \t");
            let value = if self.0.starts_with('"') { self.quoted()? } else { self.token()? };
            all.last_mut()?.1.push((word, value));
            // What follows a parameter is a comma or the end.
            self.skip(" \t");
            if !(self.0.is_empty() || self.0.starts_with(',')) {
                return None;
            }
        }
    }

    fn skip(&mut self, what: &str) {
        self.0 = self.0.trim_start_matches(|char| what.contains(char));
    }

    fn token(&mut self) -> Option<String> {
        let is_token = |char: char| char.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(char);
        let end = self.0.find(|char| !is_token(char)).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at(end);
        self.0 = rest;
        (!token.is_empty()).then(|| token.to_owned())
    }

    fn quoted(&mut self) -> Option<String> {
        let mut value = String::new();
        let mut chars = self.0[1..].char_indices();
        while let Some((at, char)) = chars.next() {
            match char {
                '"' => {
                    self.0 = &self.0[1 + at + 1..];
                    return Some(value);
                }
                '\\' => value.push(chars.next()?.1),
                other => value.push(other),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Vec<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::WWW_AUTHENTICATE, value.parse().unwrap());
        }
        challenges(&headers)
    }

    fn bearer(realm: &str, service: Option<&str>) -> Challenge {
        Challenge::Bearer { realm: realm.into(), service: service.map(str::to_owned) }
    }

    #[test]
    fn challenges_are_read_in_every_spelling() {
        assert_eq!(
            read(&[
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a:pull,push""#
            ]),
            [bearer("https://auth.docker.io/token", Some("registry.docker.io"))]
        );
        assert_eq!(read(&[r#"Basic realm="a, b", bearer realm=x"#]), [Challenge::Basic, bearer("x", None)]);
        assert_eq!(read(&["Negotiate", r#"BASIC realm="x\"y""#]), [Challenge::Basic]);
        assert_eq!(
            read(&[r#"Digest qop="auth", Bearer realm = "x" , service = "s""#]),
            [bearer("x", Some("s"))]
        );
    }

    #[test]
    fn what_is_not_well_formed_is_no_challenge() {
        for bad in [
            r#"Bearer realm="https://a"#,
            r#"realm="https://a""#,
            r#"Bearer realm="a"service="b""#,
            r#"Bearer realm="a" service="b""#,
            "Bearer realm=",
            "Bearer",
            "Bearer/realm",
            "",
        ] {
            assert_eq!(read(&[bad]), [], "{bad}");
        }
    }
}
