use std::io;
use std::time::Duration;

use tonic::{Code, Status, TimeoutExpired};

use super::*;

fn grpc(status: &Status) -> Verdict {
    GrpcClassifier::default().status(status)
}

#[test]
fn the_table_of_grpc_codes() {
    let success = [
        Code::Ok,
        Code::InvalidArgument,
        Code::NotFound,
        Code::AlreadyExists,
        Code::PermissionDenied,
        Code::Unauthenticated,
        Code::FailedPrecondition,
        Code::OutOfRange,
        Code::Unimplemented,
    ];
    for code in success {
        assert_eq!(grpc(&Status::new(code, "")), Verdict::SUCCESS, "{code:?}");
    }
    for code in [Code::Unknown, Code::Internal, Code::DataLoss] {
        assert_eq!(grpc(&Status::new(code, "")), Verdict::FAILURE, "{code:?}");
    }
    assert_eq!(grpc(&Status::unavailable("")), Verdict::UNAVAILABLE);
    assert_eq!(grpc(&Status::aborted("")), Verdict::SUCCESS.retryable(true));
    assert_eq!(grpc(&Status::deadline_exceeded("")), Verdict::TIMEOUT);
    assert_eq!(grpc(&Status::cancelled("")), Verdict::IGNORED);
}

#[test]
fn a_time_out_of_tonic_inside_cancelled_is_a_failure() {
    let status = Status::from_error(Box::new(TimeoutExpired(())));
    assert_eq!(status.code(), Code::Cancelled);
    assert_eq!(grpc(&status), Verdict::TIMEOUT);
    let failed: Result<&::http::Response<()>, &TimeoutExpired> = Err(&TimeoutExpired(()));
    assert_eq!(GrpcClassifier::default().classify(failed), Verdict::TIMEOUT);
}

#[test]
fn resource_exhausted_is_retried_only_if_it_says_when() {
    assert_eq!(grpc(&Status::resource_exhausted("")), Verdict::throttled(Hint::default()));
    assert!(!grpc(&Status::resource_exhausted("")).retryable);
    let mut status = Status::resource_exhausted("");
    status.metadata_mut().insert("grpc-retry-pushback-ms", "40".parse().unwrap());
    let verdict = grpc(&status);
    assert!(verdict.retryable);
    assert_eq!(verdict.outcome, Outcome::Throttled { retry_after: Some(Duration::from_millis(40)) });
}

#[test]
fn a_time_out_of_a_hurried_caller_is_ignored() {
    let (least, ms) = (GrpcClassifier::default().least_for_test(), Duration::from_millis);
    assert_eq!(Verdict::TIMEOUT.within(Some(ms(9)), least).outcome, Outcome::Ignored);
    assert_eq!(Verdict::TIMEOUT.within(Some(ms(10)), least).outcome, Outcome::Failure);
    assert_eq!(Verdict::TIMEOUT.within(None, least).outcome, Outcome::Failure);
    assert_eq!(Verdict::FAILURE.within(Some(ms(9)), least).outcome, Outcome::Failure);
}

impl GrpcClassifier {
    fn least_for_test(&self) -> Duration {
        Classify::<tonic::Response<()>, Status>::min_attributable(self)
    }
}

#[test]
fn a_reset_of_the_stream_is_read_as_its_status() {
    let of = |reason: h2::Reason| {
        let error = crate::Error::Inner(h2::Error::from(reason));
        GrpcClassifier::default().classify(Err::<&::http::Response<()>, _>(&error))
    };
    assert_eq!(of(h2::Reason::REFUSED_STREAM), Verdict::UNAVAILABLE);
    assert_eq!(of(h2::Reason::CANCEL), Verdict::IGNORED);
    assert_eq!(of(h2::Reason::ENHANCE_YOUR_CALM), Verdict::throttled(Hint::default()));
    assert_eq!(of(h2::Reason::INTERNAL_ERROR), Verdict::FAILURE);
}

#[test]
fn a_rejection_of_this_process_says_nothing_about_the_target() {
    let open = crate::Error::<io::Error>::circuit_open("b".into(), crate::State::Open, None);
    assert_eq!(grpc(&Status::from(open)), Verdict::IGNORED);
    let limit = crate::Error::<io::Error>::limit_exceeded(3);
    let result: Result<&::http::Response<()>, _> = Err(&limit);
    assert_eq!(GrpcClassifier::default().classify(result), Verdict::IGNORED);
    assert_eq!(HttpClassifier.classify(result), Verdict::IGNORED);
}

#[test]
fn the_table_of_http_codes() {
    let of = |code: u16| {
        let response = ::http::Response::builder().status(code).body(()).unwrap();
        HttpClassifier.classify(Ok::<_, &io::Error>(&response))
    };
    for code in [200, 204, 302, 400, 404, 409, 501, 505] {
        assert_eq!(of(code), Verdict::SUCCESS, "{code}");
    }
    for code in [500, 502, 504, 599] {
        assert_eq!(of(code), Verdict::FAILURE, "{code}");
    }
    assert_eq!(of(503), Verdict::UNAVAILABLE);
    assert_eq!(of(408), Verdict::IGNORED);
    assert_eq!(of(429), Verdict::throttled(Hint::default()));
}
