// Time that only goes forward, for durations and for rates: nobody who sets the system's clock moves it.
#ifndef VLMC_BASE_CLOCK_H
#define VLMC_BASE_CLOCK_H

double clock_now(void); // seconds since a moment that is the same for the whole process

#endif
