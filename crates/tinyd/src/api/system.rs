//! The System service.

use tonic::{Request, Response};

use super::{Answer, Api, answer, convert, read};
use crate::pb::{self, system_server::System};

/// The API's version, the last part of the package's name.
const API: &str = "v1";

#[tonic::async_trait]
impl System for Api {
    async fn info(&self, _: Request<pb::InfoRequest>) -> Answer<pb::InfoResponse> {
        answer(self.engine.info().await, |info| pb::InfoResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            root: self.root.to_string_lossy().into_owned(),
            run_dir: self.run_dir.to_string_lossy().into_owned(),
            ..info.into()
        })
    }

    async fn version(&self, _: Request<pb::VersionRequest>) -> Answer<pb::VersionResponse> {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Ok(Response::new(pb::VersionResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            api: API.to_owned(),
            platform: format!("linux/{architecture}"),
        }))
    }

    async fn disk_usage(&self, _: Request<pb::DiskUsageRequest>) -> Answer<pb::DiskUsageResponse> {
        answer(self.engine.disk_usage().await, Into::into)
    }

    async fn prune_system(
        &self,
        request: Request<pb::PruneSystemRequest>,
    ) -> Answer<pb::PruneSystemResponse> {
        let choice = read(convert::prune_choice(request.into_inner()))?;
        answer(self.engine.system_prune(choice).await, Into::into)
    }

    async fn check_system(
        &self,
        request: Request<pb::CheckSystemRequest>,
    ) -> Answer<pb::CheckSystemResponse> {
        let pb::CheckSystemRequest { quick, repair } = request.into_inner();
        answer(self.engine.system_check(quick, repair).await, Into::into)
    }
}
