//! `--change`: words of a Dockerfile that change an image's configuration without a build, by Docker's rules. Pure.

mod health;
mod words;

use tinyd_core::{
    Error, Result,
    config::{Environment, Signal, User},
};

use crate::config::{Empty, RunConfig};

/// The option under which a user gives them.
const FIELD: &str = "--change";
/// What may be changed.
const WORDS: &str =
    "CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME and WORKDIR";

/// Changes `config` by these instructions in their order; each may have several lines.
///
/// # Errors
/// `InvalidArgument` of `--change` with the instruction and what would be right.
pub fn apply(config: &mut RunConfig, changes: &[String]) -> Result<()> {
    let mut is_cmd_said = false;
    for line in changes.iter().flat_map(|change| change.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        instruction(config, line, &mut is_cmd_said)
            .map_err(|error| Error::invalid(FIELD, format!("{line:?}: {}", error.message())))?;
    }
    Ok(())
}

fn instruction(config: &mut RunConfig, line: &str, is_cmd_said: &mut bool) -> Result<()> {
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    let word = word.to_ascii_uppercase();
    match word.as_str() {
        "CMD" => {
            config.cmd = command(config, rest)?;
            *is_cmd_said = true;
        }
        "ENTRYPOINT" => {
            config.entrypoint = command(config, rest)?;
            // The arguments of another program are none of this one's.
            if !*is_cmd_said {
                config.cmd.clear();
            }
        }
        "ENV" => env(config, rest)?,
        "EXPOSE" => expose(config, rest)?,
        "HEALTHCHECK" => config.healthcheck = Some(health::healthcheck(rest, |rest| command(config, rest))?),
        "LABEL" => {
            for (key, value) in words::pairs("LABEL", rest, &config.env)? {
                config.labels.insert(key, value);
            }
        }
        "ONBUILD" => on_build(config, rest)?,
        "STOPSIGNAL" => {
            let name = one("STOPSIGNAL", rest, config, "a signal, such as SIGQUIT")?;
            Signal::parse(FIELD, &name)?;
            config.stop_signal = name;
        }
        "USER" => {
            let user = one("USER", rest, config, "a user, such as 1000:1000")?;
            User::parse(FIELD, &user)?;
            config.user = user;
        }
        "VOLUME" => volume(config, rest)?,
        "WORKDIR" => workdir(config, rest)?,
        "FROM" | "RUN" | "COPY" | "ADD" | "ARG" | "SHELL" | "MAINTAINER" => {
            return Err(wrong(format!("{word} is for a build: there are {WORDS}")));
        }
        _ => return Err(wrong(format!("{word:?} is no instruction: there are {WORDS}"))),
    }
    Ok(())
}

fn wrong(message: impl Into<String>) -> Error {
    Error::invalid(FIELD, message)
}

/// `["program", "argument"]`, or a line for the shell.
fn command(config: &RunConfig, rest: &str) -> Result<Vec<String>> {
    if let Some(list) = list(rest)? {
        return Ok(list);
    }
    if rest.is_empty() {
        return Ok(Vec::new());
    }
    let shell = match config.shell.as_slice() {
        [] => vec!["/bin/sh".to_owned(), "-c".to_owned()],
        own => own.to_vec(),
    };
    Ok(shell.into_iter().chain([rest.to_owned()]).collect())
}

/// A list in brackets. What begins and ends like one and is none was meant to be one.
fn list(rest: &str) -> Result<Option<Vec<String>>> {
    if !(rest.starts_with('[') && rest.ends_with(']')) {
        return Ok(None);
    }
    serde_json::from_str(rest).map(Some).map_err(|_| {
        wrong("what is in brackets is a list of words in double quotes, such as [\"sleep\", \"60\"]")
    })
}

fn env(config: &mut RunConfig, rest: &str) -> Result<()> {
    let mut env = Environment::default();
    config.env.iter().for_each(|entry| env.set(entry));
    for (key, value) in words::pairs("ENV", rest, &config.env)? {
        env.set(&format!("{key}={value}"));
    }
    config.env = env.into_entries();
    Ok(())
}

fn expose(config: &mut RunConfig, rest: &str) -> Result<()> {
    let ports = words::split(rest, &config.env)?;
    if ports.is_empty() {
        return Err(wrong("no port: 80, 443/tcp or 5000-5010/udp"));
    }
    for text in ports {
        let (ports, protocol) = text.split_once('/').unwrap_or((&text, "tcp"));
        let protocol = protocol.to_ascii_lowercase();
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
        let is_right = matches!(protocol.as_str(), "tcp" | "udp" | "sctp")
            && matches!((number(first), number(last)), (Some(first), Some(last)) if first <= last);
        if !is_right {
            return Err(wrong(format!("{text:?} is no port: 80, 443/tcp or 5000-5010/udp")));
        }
        config.exposed_ports.insert(format!("{ports}/{protocol}"), Empty {});
    }
    Ok(())
}

fn on_build(config: &mut RunConfig, rest: &str) -> Result<()> {
    let word = rest.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
    if matches!(word.as_str(), "" | "FROM" | "MAINTAINER" | "ONBUILD") {
        return Err(wrong(
            "what follows is an instruction of a build, such as RUN make; not FROM or ONBUILD",
        ));
    }
    config.on_build.push(rest.to_owned());
    Ok(())
}

fn volume(config: &mut RunConfig, rest: &str) -> Result<()> {
    let places = match list(rest)? {
        Some(list) => list,
        None => words::split(rest, &config.env)?,
    };
    if places.is_empty() || places.iter().any(|place| place.trim().is_empty()) {
        return Err(wrong("no directory: VOLUME /data, or [\"/data\", \"/cache\"]"));
    }
    config.volumes.extend(places.into_iter().map(|place| (place.trim().to_owned(), Empty {})));
    Ok(())
}

/// A relative one counts from the one that was.
fn workdir(config: &mut RunConfig, rest: &str) -> Result<()> {
    let dir = one("WORKDIR", rest, config, "a directory, such as /srv")?;
    let whole = if dir.starts_with('/') { dir } else { format!("{}/{dir}", config.working_dir) };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    config.working_dir = format!("/{}", parts.join("/"));
    Ok(())
}

/// The only word of an instruction.
fn one(word: &str, rest: &str, config: &RunConfig, what: &str) -> Result<String> {
    match words::split(rest, &config.env)?.as_slice() {
        [only] if !only.is_empty() => Ok(only.clone()),
        _ => Err(wrong(format!("{word} has one word: {what}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> RunConfig {
        serde_json::from_str(
            r#"{ "Cmd": ["serve"], "Env": ["PATH=/bin", "A=1"], "WorkingDir": "/srv", "Labels": { "a": "1" } }"#,
        )
        .unwrap()
    }

    fn changed(changes: &[&str]) -> RunConfig {
        let mut config = config();
        apply(&mut config, &changes.iter().map(|change| (*change).to_owned()).collect::<Vec<_>>()).unwrap();
        config
    }

    #[test]
    fn a_command_is_a_list_or_a_line_for_the_shell() {
        assert_eq!(changed(&[r#"CMD ["a", "b c"]"#]).cmd, ["a", "b c"]);
        assert_eq!(changed(&["cmd exec a $B"]).cmd, ["/bin/sh", "-c", "exec a $B"]);
        assert_eq!(changed(&["CMD [ -f /x ] && run"]).cmd, ["/bin/sh", "-c", "[ -f /x ] && run"]);
        assert_eq!(changed(&["CMD []"]).cmd, [""; 0]);
        let mut own = RunConfig { shell: vec!["/bin/bash".into(), "-ec".into()], ..config() };
        apply(&mut own, &["CMD x".into()]).unwrap();
        assert_eq!(own.cmd, ["/bin/bash", "-ec", "x"]);
    }

    #[test]
    fn an_entrypoint_drops_the_command_that_was_not_said_before_it() {
        let alone = changed(&[r#"ENTRYPOINT ["/e"]"#]);
        assert_eq!((alone.entrypoint.len(), alone.cmd.len()), (1, 0));
        let both = changed(&[r#"CMD ["c"]"#, r#"ENTRYPOINT ["/e"]"#]);
        assert_eq!(
            (both.entrypoint.as_slice(), both.cmd.as_slice()),
            (&["/e".into()][..], &["c".into()][..])
        );
    }

    #[test]
    fn what_is_set_is_added_to_what_there_is() {
        let many = changed(&[
            "ENV PATH=$PATH:/opt B=\"two words\"\nENV C the rest",
            "LABEL a=2 b='x y'",
            "EXPOSE 80 443/TCP 5000-5010/udp",
            "VOLUME /data /cache",
            "VOLUME [\"/more\"]",
            "USER 1000:50",
            "WORKDIR app/../web",
            "STOPSIGNAL SIGQUIT",
            "ONBUILD RUN make",
            "# nothing",
        ]);
        assert_eq!(many.env, ["PATH=/bin:/opt", "A=1", "B=two words", "C=the rest"]);
        assert_eq!((many.labels["a"].as_str(), many.labels["b"].as_str()), ("2", "x y"));
        assert_eq!(many.exposed_ports.keys().collect::<Vec<_>>(), ["443/tcp", "5000-5010/udp", "80/tcp"]);
        assert_eq!(many.volumes.keys().collect::<Vec<_>>(), ["/cache", "/data", "/more"]);
        assert_eq!((many.user.as_str(), many.working_dir.as_str()), ("1000:50", "/srv/web"));
        assert_eq!(
            (many.stop_signal.as_str(), many.on_build.as_slice()),
            ("SIGQUIT", &["RUN make".into()][..])
        );
        assert_eq!(many.cmd, ["serve"]);
    }

    #[test]
    fn what_cannot_be_says_what_would_be_right() {
        for (bad, rule) in [
            ("RUN make", "is for a build"),
            ("FOO x", "is no instruction"),
            ("CMD ['a']", "double quotes"),
            ("EXPOSE 0", "is no port"),
            ("EXPOSE", "no port"),
            ("EXPOSE 9-8", "is no port"),
            ("ENV", "NAME=VALUE"),
            ("ENV =x", "NAME=VALUE"),
            ("STOPSIGNAL NOPE", "is not a signal"),
            ("USER", "one word"),
            ("USER a b", "one word"),
            ("VOLUME", "no directory"),
            ("ONBUILD FROM x", "not FROM"),
            ("LABEL a='x", "quote"),
            ("HEALTHCHECK --interval=1 CMD x", "is no duration"),
        ] {
            let error = apply(&mut config(), &[bad.to_owned()]).unwrap_err();
            assert_eq!(error.field(), Some("--change"), "{bad}");
            assert!(
                error.message().contains(rule) && error.message().contains(&format!("{bad:?}")),
                "{bad}: {error}"
            );
        }
    }
}
