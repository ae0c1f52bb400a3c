//! A client that knows nothing of tinyd but what the daemon says of itself: it asks the reflection service for the contract, writes
//! requests as protobuf text, and speaks gRPC with no code of ours in between.

use std::{collections::BTreeSet, path::Path};

use prost_reflect::{
    DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor, prost::Message,
    prost_types::FileDescriptorProto,
};
use tokio::runtime::{Builder, Runtime};
use tokio_stream::Stream;
use tonic::{
    Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint},
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

/// A client and what it has learned.
pub(super) struct Stranger {
    runtime: Runtime,
    channel: Channel,
    /// Names of the services, as the daemon lists them.
    pub(super) services: Vec<String>,
    contract: DescriptorPool,
}

impl Stranger {
    /// Connects to a unix socket and learns the contract.
    pub(super) fn meet(socket: &Path) -> Stranger {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display())).unwrap();
        let channel = runtime.block_on(endpoint.connect()).unwrap();
        let (services, contract) = runtime.block_on(learn(channel.clone()));
        Stranger { runtime, channel, services, contract }
    }

    /// Calls `SERVICE/METHOD` with one request, written as protobuf text; the first response.
    pub(super) fn ask(&self, call: &str, request: &str) -> Result<DynamicMessage, Status> {
        let method = self.method(call);
        let request = DynamicMessage::parse_text_format(method.input(), request)
            .unwrap_or_else(|error| panic!("{call}: {error}: {request}"));
        self.runtime.block_on(async {
            let mut grpc = Grpc::new(self.channel.clone());
            grpc.ready().await.unwrap();
            let codec = Dynamic(method.output());
            let path = PathAndQuery::try_from(format!("/{call}")).unwrap();
            // On the wire a method that takes one request is a stream of one.
            let requests = Request::new(once(request));
            let mut responses = grpc.streaming(requests, path, codec).await?.into_inner();
            Ok(responses.message().await?.unwrap_or_else(|| panic!("{call} answered nothing")))
        })
    }

    fn method(&self, call: &str) -> MethodDescriptor {
        let (service, method) = call.split_once('/').unwrap();
        let service = self.contract.get_service_by_name(service).unwrap_or_else(|| panic!("no {service}"));
        service.methods().find(|known| known.name() == method).unwrap_or_else(|| panic!("no {call}"))
    }
}

/// Everything that the reflection service tells: the services, and their files with what these import.
async fn learn(channel: Channel) -> (Vec<String>, DescriptorPool) {
    let mut reflection = ServerReflectionClient::new(channel);
    let mut ask = async |message| {
        let request = ServerReflectionRequest { host: String::new(), message_request: Some(message) };
        let mut answers = reflection.server_reflection_info(once(request)).await.unwrap().into_inner();
        answers.message().await.unwrap().unwrap().message_response.unwrap()
    };
    let MessageResponse::ListServicesResponse(list) = ask(MessageRequest::ListServices(String::new())).await
    else {
        panic!("no list of services")
    };
    let services: Vec<String> = list.service.into_iter().map(|service| service.name).collect();
    let mut questions: Vec<MessageRequest> =
        services.iter().cloned().map(MessageRequest::FileContainingSymbol).collect();
    let (mut known, mut files) = (BTreeSet::new(), Vec::new());
    while let Some(question) = questions.pop() {
        let answer = ask(question.clone()).await;
        let MessageResponse::FileDescriptorResponse(found) = answer else {
            panic!("{question:?}: {answer:?}")
        };
        for bytes in found.file_descriptor_proto {
            let file = FileDescriptorProto::decode(bytes.as_slice()).unwrap();
            if known.insert(file.name().to_owned()) {
                questions.extend(file.dependency.iter().cloned().map(MessageRequest::FileByFilename));
                files.push(file);
            }
        }
    }
    let mut contract = DescriptorPool::new();
    contract.add_file_descriptor_protos(files).unwrap();
    (services, contract)
}

/// A stream of one.
fn once<T>(item: T) -> impl Stream<Item = T> {
    tokio_stream::iter([item])
}

/// How messages whose shape is known only at run time become bytes and back; it holds the shape of the responses.
struct Dynamic(MessageDescriptor);

impl Codec for Dynamic {
    type Encode = DynamicMessage;
    type Decode = DynamicMessage;
    type Encoder = Write;
    type Decoder = Read;

    fn encoder(&mut self) -> Write {
        Write
    }

    fn decoder(&mut self) -> Read {
        Read(self.0.clone())
    }
}

struct Write;

impl Encoder for Write {
    type Item = DynamicMessage;
    type Error = Status;

    fn encode(&mut self, message: DynamicMessage, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        message.encode(into).map_err(|error| Status::internal(error.to_string()))
    }
}

struct Read(MessageDescriptor);

impl Decoder for Read {
    type Item = DynamicMessage;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<DynamicMessage>, Status> {
        let message = DynamicMessage::decode(self.0.clone(), from);
        message.map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}
