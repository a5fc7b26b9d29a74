"""Ray: Serve applications, backends, stream workers, job runs, schedules, tuning and
the cluster.
"""
