//! Calendar windows in a time zone: where the day, the month or the hour that holds an instant begins and ends.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};

use super::LimitError;
use crate::time::{Span, Time};

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;
/// 1970-01-05, the first Monday after the epoch, in days after the epoch.
const FIRST_MONDAY: i64 = 4;
/// Longest window: 100 years, in days and in months.
const MAX_DAYS: i64 = 36_525;
const MAX_MONTHS: i64 = 1_200;
/// More than any zone is away from UTC.
const MAX_OFFSET: i64 = 26 * 3_600 * SECOND;

/// A unit of the calendar.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum CalendarUnit {
    /// A second.
    Second,
    /// A minute of the wall clock.
    Minute,
    /// An hour of the wall clock.
    Hour,
    /// From midnight to midnight: 23, 24 or 25 hours.
    Day,
    /// From Monday to Monday.
    Week,
    /// A month.
    Month,
    /// A year.
    Year,
}

/// Windows of some calendar units in a time zone; they tile time without gap or overlap.
///
/// Several units to a window count from the local 1970-01-01 (weeks: Monday, 1970-01-05). A day or anything
/// longer begins at the first instant whose local date has been reached, which is one o'clock where midnight
/// is skipped; a date that is skipped as a whole has no window. Seconds, minutes and hours follow the
/// wall clock and are cut short where its offset from UTC changes, so that one that is passed twice is two
/// windows. Zone data come with the program (IANA, by `jiff`); nothing is read from the system.
///
/// All changes of the offset until [`Time::MAX`] are looked up when the calendar is built (up to 9 kB), so
/// that a decision takes only integer arithmetic and a binary search.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Calendar {
    unit: CalendarUnit,
    multiplier: u32,
    length: Length,
    zone: Arc<str>,
    offsets: Arc<[Offset]>,
}

/// How windows are counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Length {
    /// Microseconds on the wall clock.
    Micros(i64),
    /// Days, counted from the day `first` after 1970-01-01.
    Days { days: i64, first: i64 },
    /// Months, counted from January 1970.
    Months(i64),
}

/// From the instant `since` on, in microseconds, the wall clock shows UTC plus `ahead` microseconds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Offset {
    since: i64,
    ahead: i64,
}

impl Calendar {
    /// Windows of `multiplier` units, at least one and up to 100 years, in the IANA time zone `zone`
    /// (`Europe/Berlin`, `UTC`; upper and lower case do not matter).
    ///
    /// # Errors
    /// [`LimitError::Window`] if a window is empty or longer than 100 years, [`LimitError::Zone`] if the
    /// database does not know the zone.
    pub fn new(unit: CalendarUnit, multiplier: u32, zone: &str) -> Result<Calendar, LimitError> {
        let length = Length::of(unit, multiplier)?;
        let found = known(zone)?;
        let name = found.iana_name().unwrap_or(zone).into();
        Ok(Calendar { unit, multiplier, length, zone: name, offsets: offsets(&found) })
    }

    /// The unit.
    #[must_use]
    pub const fn unit(&self) -> CalendarUnit {
        self.unit
    }

    /// Units in a window, at least 1.
    #[must_use]
    pub const fn multiplier(&self) -> u32 {
        self.multiplier
    }

    /// The IANA name of its time zone.
    #[must_use]
    pub fn zone(&self) -> &str {
        &self.zone
    }

    /// Start (inclusive) and end (exclusive) of the window that holds `now`. Only the last window of all
    /// ends at [`Time::MAX`] and holds it too; the first begins at the epoch, however long before it began.
    #[must_use]
    pub fn window(&self, now: Time) -> (Time, Time) {
        let now = now.as_micros().cast_signed();
        let (start, end) = match self.length {
            Length::Micros(length) => self.clock_window(now, length),
            Length::Days { .. } | Length::Months(_) => self.date_window(now),
        };
        (clamped(start), clamped(end))
    }

    fn clock_window(&self, now: i64, length: i64) -> (i64, i64) {
        let index = self.index(now);
        let Offset { since, ahead } = self.offsets[index];
        let start = (now + ahead).div_euclid(length) * length - ahead;
        let until = self.offsets.get(index + 1).map_or(i64::MAX, |next| next.since);
        (start.max(since), (start + length).min(until))
    }

    fn date_window(&self, now: i64) -> (i64, i64) {
        let ahead = self.offsets[self.index(now)].ahead;
        let mut count = self.length.count((now + ahead).div_euclid(DAY));
        let mut start = self.instant(self.length.first_day(count));
        let mut end = self.instant(self.length.first_day(count + 1));
        // A clock that was put back over midnight shows the old date again; the new day goes on.
        while end <= now {
            count += 1;
            start = end;
            end = self.instant(self.length.first_day(count + 1));
        }
        (start, end)
    }

    /// The first instant at which the wall clock has reached `day`, in days after 1970-01-01.
    fn instant(&self, day: i64) -> i64 {
        let local = day * DAY;
        let mut index = self.index(local - MAX_OFFSET);
        while let Some(next) = self.offsets.get(index + 1) {
            if next.since + self.offsets[index].ahead > local {
                break;
            }
            index += 1;
        }
        let Offset { since, ahead } = self.offsets[index];
        since.max(local - ahead)
    }

    /// Which offset is in force; the first holds since ever.
    fn index(&self, now: i64) -> usize {
        self.offsets.partition_point(|offset| offset.since <= now).saturating_sub(1)
    }
}

impl Length {
    fn of(unit: CalendarUnit, multiplier: u32) -> Result<Length, LimitError> {
        let count = i64::from(multiplier);
        let length = match unit {
            CalendarUnit::Second => Length::Micros(count * SECOND),
            CalendarUnit::Minute => Length::Micros(count * 60 * SECOND),
            CalendarUnit::Hour => Length::Micros(count * 3_600 * SECOND),
            CalendarUnit::Day => Length::Days { days: count, first: 0 },
            CalendarUnit::Week => Length::Days { days: count * 7, first: FIRST_MONDAY },
            CalendarUnit::Month => Length::Months(count),
            CalendarUnit::Year => Length::Months(count * 12),
        };
        let (size, most) = match length {
            Length::Micros(micros) => (micros, MAX_DAYS * DAY),
            Length::Days { days, .. } => (days, MAX_DAYS),
            Length::Months(months) => (months, MAX_MONTHS),
        };
        if (1..=most).contains(&size) { Ok(length) } else { Err(LimitError::Window(length.span())) }
    }

    /// Roughly how long, for a message: a month is a twelfth of 365.25 days.
    fn span(self) -> Span {
        let micros = match self {
            Length::Micros(micros) => micros,
            Length::Days { days, .. } => days.saturating_mul(DAY),
            Length::Months(months) => months.saturating_mul(MAX_DAYS * DAY / MAX_MONTHS),
        };
        Span::from_micros(micros.cast_unsigned())
    }

    /// Number of the window that holds `day`.
    fn count(self, day: i64) -> i64 {
        match self {
            Length::Micros(micros) => (day * DAY).div_euclid(micros),
            Length::Days { days, first } => (day - first).div_euclid(days),
            Length::Months(months) => month_of(day).div_euclid(months),
        }
    }

    /// First day of the window with the number `count`.
    fn first_day(self, count: i64) -> i64 {
        match self {
            Length::Micros(micros) => (count * micros).div_euclid(DAY),
            Length::Days { days, first } => first + count * days,
            Length::Months(months) => first_of_month(count * months),
        }
    }
}

/// The zone of that name, in whatever case it is written.
fn known(zone: &str) -> Result<TimeZone, LimitError> {
    let found = TimeZoneDatabase::bundled().get(zone).ok().filter(|found| !found.is_unknown());
    found.ok_or_else(|| LimitError::Zone(zone.to_owned()))
}

/// Every change of a zone's offset, from the epoch to [`Time::MAX`].
fn offsets(zone: &TimeZone) -> Arc<[Offset]> {
    let mut offsets = vec![Offset { since: i64::MIN, ahead: ahead(zone, Timestamp::UNIX_EPOCH) }];
    for change in zone.following(Timestamp::UNIX_EPOCH) {
        let since = change.timestamp().as_microsecond();
        if since > Time::MAX.as_micros().cast_signed() {
            break;
        }
        let ahead = i64::from(change.offset().seconds()) * SECOND;
        // A mere change of the zone's name or of what counts as summer does not move the clock.
        if offsets.last().is_some_and(|last| last.ahead != ahead) {
            offsets.push(Offset { since, ahead });
        }
    }
    offsets.into()
}

fn ahead(zone: &TimeZone, at: Timestamp) -> i64 {
    i64::from(zone.to_offset(at).seconds()) * SECOND
}

/// Months between January 1970 and the month that holds `day` (Howard Hinnant, "chrono-compatible low-level
/// date algorithms", `civil_from_days`).
const fn month_of(day: i64) -> i64 {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    (era * 400 + year_of_era) * 12 + month_from_march + 2 - 1_970 * 12
}

/// First day of the month that is `month` months after January 1970 (Hinnant's `days_from_civil`).
const fn first_of_month(month: i64) -> i64 {
    let from_march = month + 1_970 * 12 - 2;
    let year = from_march.div_euclid(12);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * from_march.rem_euclid(12) + 2) / 5;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Times before the epoch become the epoch, times after [`Time::MAX`] become that.
const fn clamped(micros: i64) -> Time {
    if micros < 0 { Time::EPOCH } else { Time::from_micros(micros.cast_unsigned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_and_days_convert_both_ways() {
        assert_eq!([month_of(0), month_of(30), month_of(31), month_of(-1)], [0, 0, 1, -1]);
        assert_eq!(first_of_month(1), 31);
        assert_eq!(first_of_month(12 * 30), 10_957, "2000-01-01");
        for month in -1_200..4_800 {
            assert_eq!(month_of(first_of_month(month)), month);
            assert_eq!(month_of(first_of_month(month) - 1), month - 1);
        }
    }

    #[test]
    fn a_window_is_at_most_100_years() {
        let new = |unit, multiplier| Calendar::new(unit, multiplier, "UTC").map(|_| ());
        assert_eq!(new(CalendarUnit::Day, 0), Err(LimitError::Window(Span::ZERO)));
        assert_eq!(new(CalendarUnit::Year, 100), Ok(()));
        assert!(new(CalendarUnit::Year, 101).is_err());
        assert!(new(CalendarUnit::Week, u32::MAX).is_err());
        assert_eq!(new(CalendarUnit::Second, 3_155_760_000), Ok(()));
        assert!(new(CalendarUnit::Second, 3_155_760_001).is_err());
    }

    #[test]
    fn an_unknown_zone_is_an_error() {
        for zone in ["Mars/Olympus", "", "Etc/Unknown"] {
            assert_eq!(Calendar::new(CalendarUnit::Day, 1, zone), Err(LimitError::Zone(zone.to_owned())));
        }
    }
}
