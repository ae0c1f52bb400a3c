//! The gRPC services: convert, ask the engine, convert. No rule about containers lives here.

mod bridge;
mod containers;
mod convert;
pub(crate) mod error;
mod images;
mod networks;
mod registries;
mod report;
mod system;
mod volumes;

use std::{path::PathBuf, pin::Pin};

use futures_util::Stream;
pub(crate) use report::report;
use tinyd_engine::Engine;
use tokio_util::sync::CancellationToken;
use tonic::{Response, Status, service::Routes};

use crate::pb::{
    self, containers_server::ContainersServer, images_server::ImagesServer, networks_server::NetworksServer,
    registries_server::RegistriesServer, system_server::SystemServer, volumes_server::VolumesServer,
};

/// The largest message either side takes, in bytes.
pub(crate) const MESSAGE_MAX_BYTES: usize = 4 << 20;

/// What the services are made of.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    /// Who is asked.
    pub(crate) engine: Engine,
    /// Cancelled when the daemon ends; whatever would wait for a container's end answers then.
    pub(crate) ending: CancellationToken,
    /// The data root, to be told.
    pub(crate) root: PathBuf,
    /// The run directory, to be told.
    pub(crate) run_dir: PathBuf,
}

/// What a streaming call answers.
type Many<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What a handler answers.
type Answer<T> = Result<Response<T>, Status>;

impl Api {
    /// Every service of the contract, health, and reflection.
    ///
    /// # Errors
    /// The contract's own description cannot be read.
    pub(crate) async fn routes(self) -> Result<Routes, tonic_reflection::server::Error> {
        let (health, health_service) = tonic_health::server::health_reporter();
        health.set_serving::<ContainersServer<Api>>().await;
        health.set_serving::<ImagesServer<Api>>().await;
        health.set_serving::<RegistriesServer<Api>>().await;
        health.set_serving::<NetworksServer<Api>>().await;
        health.set_serving::<VolumesServer<Api>>().await;
        health.set_serving::<SystemServer<Api>>().await;
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(pb::DESCRIPTION)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()?;
        let mut routes = Routes::builder();
        routes
            .add_service(ContainersServer::new(self.clone()).max_decoding_message_size(MESSAGE_MAX_BYTES))
            .add_service(ImagesServer::new(self.clone()).max_decoding_message_size(MESSAGE_MAX_BYTES))
            .add_service(RegistriesServer::new(self.clone()).max_decoding_message_size(MESSAGE_MAX_BYTES))
            .add_service(NetworksServer::new(self.clone()).max_decoding_message_size(MESSAGE_MAX_BYTES))
            .add_service(VolumesServer::new(self.clone()).max_decoding_message_size(MESSAGE_MAX_BYTES))
            .add_service(SystemServer::new(self).max_decoding_message_size(MESSAGE_MAX_BYTES))
            .add_service(health_service)
            .add_service(reflection);
        Ok(routes.routes())
    }
}

/// The engine's answer as a response.
fn answer<T, R>(outcome: tinyd_core::Result<T>, response: impl FnOnce(T) -> R) -> Answer<R> {
    outcome.map(|value| Response::new(response(value))).map_err(|error| error::status(&error))
}

/// A request's part as an engine's word, or why it is none.
fn read<T>(outcome: tinyd_core::Result<T>) -> Result<T, Status> {
    outcome.map_err(|error| error::status(&error))
}
