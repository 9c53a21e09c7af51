"""dlt as its documentation has it, told to write Parquet files."""

from benchmarks.contestants import dlt_published

if __name__ == "__main__":
    dlt_published.main(loader_file_format="parquet")
