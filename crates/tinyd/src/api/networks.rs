//! The Networks service.

use tonic::Request;

use super::{Answer, Api, answer, read};
use crate::pb::{self, networks_server::Networks};

#[tonic::async_trait]
impl Networks for Api {
    async fn create_network(
        &self,
        request: Request<pb::CreateNetworkRequest>,
    ) -> Answer<pb::CreateNetworkResponse> {
        let config = read(request.into_inner().try_into())?;
        let made = self.engine.network_create(config).await;
        answer(made, |network| pb::CreateNetworkResponse { network: Some(network.into()) })
    }

    async fn list_networks(&self, _: Request<pb::ListNetworksRequest>) -> Answer<pb::ListNetworksResponse> {
        let listed = self.engine.network_list().await;
        answer(listed, |all| pb::ListNetworksResponse { networks: all.into_iter().map(Into::into).collect() })
    }

    async fn inspect_network(
        &self,
        request: Request<pb::InspectNetworkRequest>,
    ) -> Answer<pb::InspectNetworkResponse> {
        answer(self.engine.network_inspect(&request.into_inner().name).await, Into::into)
    }

    async fn delete_network(
        &self,
        request: Request<pb::DeleteNetworkRequest>,
    ) -> Answer<pb::DeleteNetworkResponse> {
        let deleted = self.engine.network_delete(&request.into_inner().name).await;
        answer(deleted, |()| pb::DeleteNetworkResponse {})
    }
}
