//! Calendar windows tile time in every zone, over every change of its clock, and begin where the date does.

#![expect(clippy::expect_used, reason = "a test may panic")]

use jiff::Timestamp;
use jiff::civil::{DateTime, Weekday};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use tollgate_core::limit::{Calendar, CalendarUnit};
use tollgate_core::time::{Span, Time};

const HOUR: u64 = 3_600_000_000;
const ALL_UNITS: [CalendarUnit; 7] = [
    CalendarUnit::Second,
    CalendarUnit::Minute,
    CalendarUnit::Hour,
    CalendarUnit::Day,
    CalendarUnit::Week,
    CalendarUnit::Month,
    CalendarUnit::Year,
];
/// Half-hour changes, changes at midnight, skipped days, negative summer time, none at all.
const ZONES: [&str; 16] = [
    "UTC",
    "Europe/Berlin",
    "Europe/Dublin",
    "America/New_York",
    "America/St_Johns",
    "America/Havana",
    "America/Sao_Paulo",
    "America/Asuncion",
    "America/Scoresbysund",
    "Africa/Casablanca",
    "Asia/Beirut",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Chatham",
    "Pacific/Kwajalein",
];

fn calendar(unit: CalendarUnit, multiplier: u32, zone: &str) -> Calendar {
    Calendar::new(unit, multiplier, zone).expect("the zone is known")
}

fn zone(name: &str) -> TimeZone {
    TimeZoneDatabase::bundled().get(name).expect("the zone is known")
}

fn at(text: &str) -> Time {
    let stamp: Timestamp = text.parse().expect("a timestamp");
    Time::from_micros(stamp.as_microsecond().cast_unsigned())
}

fn stamp(time: Time) -> Timestamp {
    Timestamp::from_microsecond(time.as_micros().cast_signed()).expect("jiff reaches to the year 9999")
}

fn local(time: Time, zone: &TimeZone) -> DateTime {
    zone.to_datetime(stamp(time))
}

/// Every change of the clock from `from` to 2041.
fn changes(zone: &TimeZone, from: &str) -> Vec<Time> {
    let end = at("2041-01-01T00:00:00Z");
    let from = stamp(at(from));
    let all = zone.following(from).map(|change| change.timestamp().as_microsecond().cast_unsigned());
    all.map(Time::from_micros).take_while(|change| *change < end).collect()
}

/// Windows around `change`: each holds both its ends' instants, and the next begins where it ends.
fn assert_tiles(calendar: &Calendar, change: Time) {
    let until = change + Span::from_micros(3 * HOUR);
    let (mut start, mut end) = calendar.window(change - Span::from_micros(HOUR / 30));
    for _ in 0..200 {
        assert!(start < end, "{start:?} {end:?} in {calendar:?}");
        assert_eq!(calendar.window(start), (start, end));
        assert_eq!(calendar.window(end - Span::MICRO), (start, end));
        let next = calendar.window(end);
        assert_eq!(next.0, end, "gap or overlap after {start:?} in {:?}", calendar.unit());
        (start, end) = next;
        if start > until {
            break;
        }
    }
}

#[test]
fn windows_tile_time_over_every_change_of_the_clock() {
    for name in ZONES {
        let changes = changes(&zone(name), "2020-01-01T00:00:00Z");
        for unit in ALL_UNITS {
            for multiplier in [1, 5] {
                let calendar = calendar(unit, multiplier, name);
                changes.iter().for_each(|change| assert_tiles(&calendar, *change));
            }
        }
    }
}

#[test]
fn a_day_begins_where_the_calendar_says() {
    for name in ZONES {
        let (zone, day) = (zone(name), calendar(CalendarUnit::Day, 1, name));
        for change in changes(&zone, "1990-01-01T00:00:00Z") {
            for half in 0..100_u64 {
                let now = change - Span::from_micros(25 * HOUR) + Span::from_micros(half * HOUR / 2);
                let (start, end) = day.window(now);
                let date = stamp(start).to_zoned_datetime(zone.clone());
                let expected = date.start_of_day().expect("in range").timestamp();
                assert_eq!(stamp(start), expected, "{name}: {now:?}");
                assert!(start <= now && now < end, "{name}: {now:?}");
                assert!(local(end, &zone).date() > local(start, &zone).date(), "{name}: {now:?}");
            }
        }
    }
}

#[test]
fn longer_units_begin_on_their_first_day() {
    for name in ZONES {
        let zone = zone(name);
        let units = [CalendarUnit::Week, CalendarUnit::Month, CalendarUnit::Year];
        let calendars = units.map(|unit| calendar(unit, 1, name));
        for week in 0..1_100_u64 {
            let now = at("2020-01-01T00:00:00Z") + Span::from_secs(week * 7 * 86_400);
            let [monday, month, year] =
                calendars.each_ref().map(|calendar| local(calendar.window(now).0, &zone).date());
            let today = local(now, &zone).date();
            assert_eq!(monday.weekday(), Weekday::Monday, "{name}");
            assert_eq!((month, year), (today.first_of_month(), today.first_of_year()), "{name}");
        }
    }
}

#[test]
fn days_have_23_24_or_25_hours() {
    let day = calendar(CalendarUnit::Day, 1, "Europe/Berlin");
    let hours = |now| {
        let (start, end) = day.window(at(now));
        (end - start).as_micros() / HOUR
    };
    assert_eq!(hours("2026-03-29T12:00:00Z"), 23);
    assert_eq!(hours("2026-07-01T12:00:00Z"), 24);
    assert_eq!(hours("2026-10-25T12:00:00Z"), 25);
}

#[test]
fn a_leap_year_has_a_longer_february() {
    let month = calendar(CalendarUnit::Month, 1, "UTC");
    let february = |year: &str| month.window(at(&format!("{year}-02-10T00:00:00Z")));
    assert_eq!(february("2028"), (at("2028-02-01T00:00:00Z"), at("2028-03-01T00:00:00Z")));
    let (start, end) = february("2100");
    assert_eq!((end - start).as_micros(), 28 * 24 * HOUR);
}

#[test]
fn a_skipped_day_has_no_window() {
    let day = calendar(CalendarUnit::Day, 1, "Pacific/Apia");
    let midnight = at("2011-12-30T10:00:00Z");
    assert_eq!(day.window(midnight - Span::MICRO), (at("2011-12-29T10:00:00Z"), midnight));
    assert_eq!(day.window(midnight), (midnight, at("2011-12-31T10:00:00Z")));
}

#[test]
fn a_midnight_that_does_not_exist_is_one_o_clock() {
    let day = calendar(CalendarUnit::Day, 1, "America/Sao_Paulo");
    assert_eq!(day.window(at("2017-10-15T12:00:00Z")).0, at("2017-10-15T03:00:00Z"));
    assert_eq!(day.window(at("2017-10-15T12:00:00Z")).1, at("2017-10-16T02:00:00Z"));
}

#[test]
fn a_clock_put_back_over_midnight_does_not_bring_yesterday_back() {
    let day = calendar(CalendarUnit::Day, 1, "America/St_Johns");
    let begin = at("2006-10-29T02:30:00Z");
    let change = at("2006-10-29T02:31:00Z");
    for now in [begin, change - Span::MICRO, change, change + Span::from_micros(HOUR)] {
        assert_eq!(day.window(now), (begin, at("2006-10-30T03:30:00Z")));
    }
    assert_eq!(day.window(begin - Span::MICRO).1, begin);
}

#[test]
fn a_change_by_half_an_hour_cuts_the_hour_that_it_hits() {
    let hour = calendar(CalendarUnit::Hour, 1, "Australia/Lord_Howe");
    // On 2026-04-05 the clock goes from 02:00 (+11) back to 01:30 (+10:30), at 15:00 UTC on the 4th.
    let change = at("2026-04-04T15:00:00Z");
    assert_eq!(hour.window(change), (change, at("2026-04-04T15:30:00Z")));
    assert_eq!(hour.window(change - Span::MICRO), (at("2026-04-04T14:00:00Z"), change));
}

#[test]
fn several_units_count_from_1970() {
    let fortnight = calendar(CalendarUnit::Week, 2, "UTC").window(at("1970-01-06T00:00:00Z"));
    assert_eq!(fortnight, (at("1970-01-05T00:00:00Z"), at("1970-01-19T00:00:00Z")));
    let quarter = calendar(CalendarUnit::Month, 3, "UTC").window(at("2026-11-24T00:00:00Z"));
    assert_eq!(quarter, (at("2026-10-01T00:00:00Z"), at("2027-01-01T00:00:00Z")));
    let five_years = calendar(CalendarUnit::Year, 5, "UTC").window(at("2026-11-24T00:00:00Z"));
    assert_eq!(five_years, (at("2025-01-01T00:00:00Z"), at("2030-01-01T00:00:00Z")));
}

#[test]
fn both_ends_of_time_have_a_window() {
    for name in ZONES {
        for unit in ALL_UNITS {
            for multiplier in [1, 99] {
                let calendar = calendar(unit, multiplier, name);
                let (start, end) = calendar.window(Time::EPOCH);
                assert!(start == Time::EPOCH && start < end);
                let (start, end) = calendar.window(Time::MAX);
                assert!(start < end && end == Time::MAX, "{unit:?} {multiplier} {name}");
            }
        }
    }
}

#[test]
fn the_name_of_a_zone_is_not_its_spelling() {
    assert_eq!(
        calendar(CalendarUnit::Day, 1, "europe/berlin"),
        calendar(CalendarUnit::Day, 1, "Europe/Berlin")
    );
}
