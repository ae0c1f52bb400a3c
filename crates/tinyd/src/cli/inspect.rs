//! `tinyd inspect`: everything about containers, images, networks, volumes.

use clap::{Args, ValueEnum};
use serde::Serialize;
use tinyd_core::{Error, Kind, Result as Answer};

use super::{
    failure::{Result, say},
    format::{Format, pretty},
    globals::Globals,
    output,
    remote::{Remote, answer},
    verb::Verb,
    views::{DetailsView, ImageView, NetworkDetailsView, VolumeView},
};
use crate::pb;

/// Show everything about containers, images, networks or volumes, as JSON
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  tinyd inspect c1\n  tinyd inspect --format '{{.State.Pid}} {{.NetworkSettings.IPAddress}}' c1\n  tinyd inspect --type network mynet"
)]
pub(super) struct Inspect {
    /// json, or a template such as '{{.State.ExitCode}}'
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// What the names are of: container, image, network or volume; without it each is looked for in this order
    #[arg(long, value_name = "TYPE", hide_possible_values = true)]
    r#type: Option<Type>,
    /// Names, ids, or unique beginnings of ids
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
}

/// What a name may be of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Type {
    Container,
    Image,
    Network,
    Volume,
}

/// What was found.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Thing {
    Container(Box<DetailsView>),
    Image(Box<ImageView>),
    Network(NetworkDetailsView),
    Volume(VolumeView),
}

impl Verb for Inspect {
    fn run(self, globals: &Globals) -> Result<u8> {
        inspect(globals, self.names, self.r#type, self.format.as_deref())
    }
}

/// Looks each name up; shows all that were found, tells all that were not.
pub(super) fn inspect(
    globals: &Globals,
    names: Vec<String>,
    only: Option<Type>,
    format: Option<&str>,
) -> Result<u8> {
    let format = Format::parse(format)?;
    globals.online(async move |remote| {
        let (mut found, mut code) = (Vec::new(), 0);
        for name in &names {
            match look_up(&remote, name, only).await {
                Ok(value) => found.push(value),
                Err(error) => {
                    say(&error.to_string());
                    code = 1;
                }
            }
        }
        let text = match &format {
            // Always a list, also of nothing, so that programs can read it without looking first.
            Format::People | Format::Json => pretty(&found)?,
            Format::Template(_) | Format::Columns(_) => format.list(&found, String::new)?,
        };
        output::print(&text)?;
        Ok(code)
    })
}

/// The first thing of this name.
async fn look_up(remote: &Remote, name: &str, only: Option<Type>) -> Answer<Thing> {
    let order: &[Type] = match &only {
        Some(only) => std::slice::from_ref(only),
        None => &[Type::Container, Type::Image, Type::Network, Type::Volume],
    };
    for of in order {
        match ask(remote, name, *of).await {
            Err(error) if error.kind() == Kind::NotFound && only.is_none() => {}
            // A name of a container or a network need not be one that an image can have.
            Err(error) if *of == Type::Image && error.kind() == Kind::InvalidArgument && only.is_none() => {}
            outcome => return outcome,
        }
    }
    Err(Error::new(Kind::NotFound, format!("there is no container, image, network or volume {name:?}")))
}

async fn ask(remote: &Remote, name: &str, of: Type) -> Answer<Thing> {
    let name = name.to_owned();
    Ok(match of {
        Type::Container => {
            let told = answer(remote.containers().inspect(pb::InspectRequest { container: name })).await?;
            Thing::Container(Box::new(DetailsView::from(told)))
        }
        Type::Image => {
            let told = answer(remote.images().inspect_image(pb::InspectImageRequest { image: name })).await?;
            Thing::Image(Box::new(ImageView::read(told)?))
        }
        Type::Network => {
            let told = answer(remote.networks().inspect_network(pb::InspectNetworkRequest { name })).await?;
            Thing::Network(NetworkDetailsView::from(told))
        }
        Type::Volume => {
            let told = answer(remote.volumes().inspect_volume(pb::InspectVolumeRequest { name })).await?;
            Thing::Volume(VolumeView::from(&told.volume.unwrap_or_default()))
        }
    })
}
