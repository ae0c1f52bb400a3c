//! The Volumes service.

use tinyd_core::Name;
use tonic::Request;

use super::{Answer, Api, answer, read};
use crate::pb::{self, volumes_server::Volumes};

#[tonic::async_trait]
impl Volumes for Api {
    async fn create_volume(
        &self,
        request: Request<pb::CreateVolumeRequest>,
    ) -> Answer<pb::CreateVolumeResponse> {
        let pb::CreateVolumeRequest { name, labels } = request.into_inner();
        let name = if name.is_empty() { None } else { Some(read(Name::parse("NAME", &name))?) };
        let made = self.engine.volume_create(name, labels).await;
        answer(made, |volume| pb::CreateVolumeResponse { volume: Some(volume.into()) })
    }

    async fn list_volumes(&self, _: Request<pb::ListVolumesRequest>) -> Answer<pb::ListVolumesResponse> {
        let listed = self.engine.volume_list().await;
        answer(listed, |all| pb::ListVolumesResponse { volumes: all.into_iter().map(Into::into).collect() })
    }

    async fn inspect_volume(
        &self,
        request: Request<pb::InspectVolumeRequest>,
    ) -> Answer<pb::InspectVolumeResponse> {
        let found = self.engine.volume_inspect(&request.into_inner().name).await;
        answer(found, |volume| pb::InspectVolumeResponse { volume: Some(volume.into()) })
    }

    async fn remove_volume(
        &self,
        request: Request<pb::RemoveVolumeRequest>,
    ) -> Answer<pb::RemoveVolumeResponse> {
        let removed = self.engine.volume_remove(&request.into_inner().name).await;
        answer(removed, |()| pb::RemoveVolumeResponse {})
    }

    async fn prune_volumes(&self, _: Request<pb::PruneVolumesRequest>) -> Answer<pb::PruneVolumesResponse> {
        answer(self.engine.volume_prune().await, Into::into)
    }
}
