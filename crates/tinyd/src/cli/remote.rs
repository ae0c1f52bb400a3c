//! The daemon as the command line sees it: a channel, a client for each service, and answers whose failures are the
//! engine's own words.

use std::future::Future;

use tinyd_core::Result;
use tonic::{Response, Status, transport::Channel};

use crate::{
    client::{self, Endpoint},
    pb::{
        containers_client::ContainersClient, images_client::ImagesClient, networks_client::NetworksClient,
        registries_client::RegistriesClient, system_client::SystemClient, volumes_client::VolumesClient,
    },
};

/// The largest answer, in bytes: a list of some ten thousand containers.
const ANSWER_MAX_BYTES: usize = 64 << 20;

/// A connection to a daemon. Cheap to clone; all clones are the same connection.
#[derive(Clone, Debug)]
pub(super) struct Remote {
    channel: Channel,
}

impl Remote {
    /// Connects.
    ///
    /// # Errors
    /// `Unavailable`: nobody listens there, or the TLS handshake was refused.
    pub(super) async fn connect(endpoint: &Endpoint) -> Result<Remote> {
        Ok(Remote { channel: client::connect(endpoint).await? })
    }

    /// Containers.
    pub(super) fn containers(&self) -> ContainersClient<Channel> {
        ContainersClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_MAX_BYTES)
    }

    /// Images.
    pub(super) fn images(&self) -> ImagesClient<Channel> {
        ImagesClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_MAX_BYTES)
    }

    /// Registries.
    pub(super) fn registries(&self) -> RegistriesClient<Channel> {
        RegistriesClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_MAX_BYTES)
    }

    /// Networks.
    pub(super) fn networks(&self) -> NetworksClient<Channel> {
        NetworksClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_MAX_BYTES)
    }

    /// Volumes.
    pub(super) fn volumes(&self) -> VolumesClient<Channel> {
        VolumesClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_MAX_BYTES)
    }

    /// The daemon itself.
    pub(super) fn system(&self) -> SystemClient<Channel> {
        SystemClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_MAX_BYTES)
    }
}

/// The message of an answer.
///
/// # Errors
/// The engine's error, as the daemon told it.
pub(super) async fn answer<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T> {
    call.await.map(Response::into_inner).map_err(|status| client::error(&status))
}
