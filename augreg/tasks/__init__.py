"""Tasks with numbers, in the processes of one machine or on a Dask cluster; what a task makes is whole or not there.

    with place(workers, scheduler) as finished:
        for number, report in finished(task, numbers): ...

A task is a function of its number that can be pickled. It writes what it makes itself, to a temporary name first, and finds it
finished when it is called again: so all of it may be killed anywhere and started again. Where a worker is killed another does
its task.
"""

from augreg.tasks.names import file_names
from augreg.tasks.place import place
from augreg.tasks.processes import Finished, Place, Task, processes
from augreg.tasks.sharing import at_work

__all__ = ["Finished", "Place", "Task", "at_work", "file_names", "place", "processes"]
